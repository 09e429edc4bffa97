"""Iterative refinement, written once over callables: residual, correct, criterion."""
