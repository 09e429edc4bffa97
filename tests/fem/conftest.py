"""What the tests of mplinalg.fem share."""

from __future__ import annotations

import pytest

from mplinalg.fem import product


@pytest.fixture(params=["array library", "kernels"])
def engine(request, monkeypatch):
    """Products by the array library, and by the kernels for stacks, which take over from a size."""
    if request.param == "kernels":
        monkeypatch.setattr(product, "_MANY", 0)
