"""The narrow waist: the verbs in which every algorithm above is written."""

from .dispatch import ops_for
from .protocol import Conversion, Counters, Ops

__all__ = ["Conversion", "Counters", "Ops", "ops_for"]
