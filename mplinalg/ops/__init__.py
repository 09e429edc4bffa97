"""The narrow waist: the verbs in which every algorithm above is written."""

from .batched import NOT_FINITE, BatchedOps, FactoredBatch, Judged, SolvedBatch
from .dispatch import (
    batched_ops_for,
    direct_ops_for,
    fem_ops_on,
    is_on_device,
    is_on_host,
    ops_for,
    update_ops_for,
)  # fmt: skip
from .protocol import Conversion, Counters, DirectOps, Ops

__all__ = [
    "NOT_FINITE", "BatchedOps", "Conversion", "Counters", "DirectOps", "FactoredBatch", "Judged",
    "Ops", "SolvedBatch", "batched_ops_for", "direct_ops_for", "fem_ops_on",
    "is_on_device", "is_on_host", "ops_for", "update_ops_for",
]  # fmt: skip
