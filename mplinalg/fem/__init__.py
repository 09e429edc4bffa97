"""Tensor contractions and finite elements: many small products, arranged as few large ones."""

# Contractions: `contract` reads the notation (`subscripts`), finds the order of the products
# (`path`), says how each of them is one of matrices (`lowering`), keeps that as a `plan`, and runs
# it by `product`.
# Finite elements: `rules` has nodes and weights, `basis` makes cells of them, `mesh` many cells,
# `geometry` what integrals need; `element_operator`, its kinds in `operators` and their `sums`
# apply, `load` integrates, `cg` solves by an `iteration`.

from .basis import TensorBasis
from .cg import IterationReport, solve
from .contract import contract, contract_path
from .geometry import Geometry
from .load import boundary_load, load_vector
from .mesh import StructuredMesh
from .operators import DiffusionOperator, MassOperator, bake_off
from .sums import OperatorSum

__all__ = [
    "DiffusionOperator", "Geometry", "IterationReport", "MassOperator", "OperatorSum",
    "StructuredMesh", "TensorBasis", "bake_off", "boundary_load", "contract", "contract_path",
    "load_vector", "solve",
]  # fmt: skip
