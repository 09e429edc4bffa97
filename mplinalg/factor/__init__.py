"""Factorizations in any format, written once over Ops."""
