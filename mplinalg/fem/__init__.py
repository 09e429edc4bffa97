"""Tensor contractions and finite elements: many small products, arranged as few large ones."""

from .basis import TensorBasis
from .cg import IterationReport, solve
from .contract import contract, contract_path
from .geometry import Geometry
from .load import load_vector
from .mesh import StructuredMesh
from .operators import DiffusionOperator, MassOperator, bake_off

__all__ = [
    "DiffusionOperator", "Geometry", "IterationReport", "MassOperator", "StructuredMesh",
    "TensorBasis", "bake_off", "contract", "contract_path", "load_vector", "solve",
]  # fmt: skip
