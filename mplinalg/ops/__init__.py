"""The narrow waist: the verbs in which every algorithm above is written."""

from .dispatch import direct_ops_for, is_on_device, is_on_host, ops_for
from .protocol import Conversion, Counters, DirectOps, Ops

__all__ = [
    "Conversion", "Counters", "DirectOps", "Ops", "direct_ops_for", "is_on_device", "is_on_host",
    "ops_for",
]  # fmt: skip
