"""batched_triangles.cu: triangular systems in batches, a lane to a row.

All its barriers are those of batched_rows.cuh: test_batched_lu.py.
"""

from __future__ import annotations

from .suite_batched_triangles import TrianglesSuite


class TestTriangles(TrianglesSuite):
    ROUTINE = "triangles"
    SIZES = (1, 2, 3, 4, 5, 8, 9, 16, 17, 31, 32)
    N = 11
    CHECKED = ((3, 33), (7, 17), (14, 9), (21, 5))
