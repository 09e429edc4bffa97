"""The clock, the clocks and the power of a GPU, on the stand-in for CuPy."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mplinalg.bench import gpu_device

from ..cupy_on_host.install import cupy_on_host
from .gpu_harness import cupy, quick

__all__ = ["cupy", "cupy_on_host", "quick"]  # fixtures


def test_the_clock_adds_up_events(cupy, monkeypatch):
    """Milliseconds since the last event, each in single precision."""
    passed = iter([5.0, 0.25])
    monkeypatch.setattr(cupy.cuda, "get_elapsed_time", lambda before, after: next(passed))
    clock = gpu_device.EventClock()
    assert [clock(), clock()] == pytest.approx([5e-3, 5.25e-3])


def smi(monkeypatch, output, returncode=0):
    asked = []

    def ran(words, **options):
        asked.append(words)
        return SimpleNamespace(stdout=output, returncode=returncode)

    monkeypatch.setattr(gpu_device.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(gpu_device.subprocess, "run", ran)
    return asked


def test_clocks_and_power(cupy, monkeypatch):
    asked = smi(monkeypatch, "1980, 3201, 123.45, [N/A]\n")
    assert gpu_device.Cuda("cuda:1").state()["gpu_state"] == {
        "sm_megahertz": 1980.0, "memory_megahertz": 3201.0, "watts": 123.45, "celsius": None,
        "free_bytes": cupy.cuda.runtime.memGetInfo()[0],
    }  # fmt: skip
    assert "--id=0000:01:00.0" in asked[0]


@pytest.mark.parametrize(("output", "returncode"), [("", 0), ("1, 2\n", 0), ("1,2,3,4\n", 9)])
def test_what_nvidia_smi_does_not_say_is_unknown(cupy, monkeypatch, output, returncode):
    smi(monkeypatch, output, returncode)
    state = gpu_device.Cuda().state()["gpu_state"]
    del state["free_bytes"]
    assert set(state.values()) == {None}
