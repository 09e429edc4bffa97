"""Joules: of a powercap folder, of NVML, or unknown."""

import sys
from types import SimpleNamespace

import pytest

from mplinalg.ops.energy import Nvml, Powercap, meter

RANGE = 262_143_328_850


def zone(root, folder, name, energy, wraps=RANGE):
    path = root / folder
    path.mkdir(parents=True, exist_ok=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{energy}\n")
    (path / "max_energy_range_uj").write_text(f"{wraps}\n")
    return path / "energy_uj"


def test_joules_of_packages_and_memory(tmp_path):
    package = zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 5_000_000)
    memory = zone(tmp_path, "intel-rapl:0:1", "dram", 0)
    found = Powercap(tmp_path)
    before = found.read()
    package.write_text("3500000\n")
    second.write_text("6000000\n")
    memory.write_text("250000\n")
    assert found.since(before) == pytest.approx(2.5 + 1.0 + 0.25)


def test_nothing_is_counted_twice(tmp_path):
    """Cores are part of the package, psys is more than it, and a second driver lists it again."""
    paths = [
        zone(tmp_path, "intel-rapl:0", "package-0", 0),
        zone(tmp_path, "intel-rapl:0:0", "core", 0),
        zone(tmp_path, "intel-rapl:1", "psys", 0),
        zone(tmp_path, "intel-rapl-mmio:0", "package-0", 0),
    ]
    found = Powercap(tmp_path)
    before = found.read()
    for path in paths:
        path.write_text("2000000")
    assert found.since(before) == pytest.approx(2.0)


def test_a_counter_that_wraps_around(tmp_path):
    counter = zone(tmp_path, "intel-rapl:0", "package-0", RANGE - 300_000)
    found = Powercap(tmp_path)
    before = found.read()
    counter.write_text("200000")
    assert found.since(before) == pytest.approx(0.5)


def test_unknown_is_not_zero(tmp_path):
    assert Powercap(tmp_path / "missing").read() is None
    assert Powercap(tmp_path).since(Powercap(tmp_path).read()) is None
    first = zone(tmp_path, "intel-rapl:0", "package-0", 5)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 5)
    found = Powercap(tmp_path)
    before = found.read()
    second.unlink()
    second.mkdir()  # cannot be read as a file, not by root either
    assert found.read() is None
    assert found.since(before) is None
    second.rmdir()
    second.write_text("not a number")
    assert found.since(before) is None
    first.write_text("7")
    second.write_text("7")
    assert found.since(None) is None


def test_a_counter_that_did_not_move_is_unknown(tmp_path):
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 700)
    found = Powercap(tmp_path)
    before = found.read()
    assert found.since(before) is None
    counter.write_text("701")
    assert found.since(before) == pytest.approx(1e-6)


class NVMLError(Exception):
    pass


def fake_nvml(monkeypatch, counter):
    def energy(handle):
        value = next(counter)
        if value is None:
            raise NVMLError("not supported")
        return value

    module = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetTotalEnergyConsumption=energy,
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return module


def test_joules_of_a_gpu(monkeypatch):
    fake_nvml(monkeypatch, iter([1000, 3500, None, 9]))
    found = meter("cuda")
    before = found.read()
    assert found.since(before) == pytest.approx(2.5)  # of millijoules
    assert found.read() is None
    assert found.since(None) is None


def test_a_counter_of_a_gpu_that_did_not_move_is_unknown(monkeypatch):
    fake_nvml(monkeypatch, iter([1000, 1000]))
    found = meter("cuda")
    assert found.since(found.read()) is None


def test_no_gpu_no_joules(monkeypatch):
    module = fake_nvml(monkeypatch, iter([]))

    def fails():
        raise NVMLError("driver not loaded")

    module.nvmlInit = fails
    assert Nvml().read() is None
    monkeypatch.setitem(sys.modules, "pynvml", None)  # not installed
    assert Nvml().read() is None


def test_the_meter_of_the_processor():
    assert isinstance(meter("cpu"), Powercap)
