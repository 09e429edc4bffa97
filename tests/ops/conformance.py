"""What every backend must satisfy to be a `mplinalg.ops.Ops`.

A backend's tests make a subclass of `OpsConformance` called ``Test...`` and set `ops`,
`to_device`, and `to_host`, see `helpers.Suite`. Everything is judged on the host, in float64 or
exactly; backward errors must be below 30 n u.
"""

from .suite_butterfly import ButterflySuite
from .suite_factorizations import FactorizationSuite
from .suite_layouts import LayoutSuite
from .suite_level3 import Level3Suite
from .suite_movement import MovementSuite
from .suite_residual import ResidualSuite
from .suite_systems import SystemSuite
from .suite_threads import ThreadSuite


class OpsConformance(
    MovementSuite, Level3Suite, FactorizationSuite, LayoutSuite, ButterflySuite, ResidualSuite,
    ThreadSuite,
):  # fmt: skip
    """Every verb of `mplinalg.ops.Ops`."""


class DirectOpsConformance(OpsConformance, SystemSuite):
    """Those of `mplinalg.ops.DirectOps` too."""
