"""Training on two processes under mpiexec; what happens when one of them dies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mplinalg.nn import checkpoint

from .mpi_program import EPOCHS, HALF, built, data, weights

pytest.importorskip("mpi4py")
pytest.importorskip("safetensors")
PROGRAM = Path(__file__).with_name("mpi_program.py")
TIMEOUT = 120
"""Seconds that a job may take, which takes about two."""


def launched(mpiexec, *command):
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(
        [mpiexec, "-n", "2", sys.executable, *command],
        env=env, capture_output=True, text=True, timeout=TIMEOUT,
    )  # fmt: skip


@pytest.fixture(scope="module")
def mpiexec():
    """That of the environment; another one only if it belongs to the library of mpi4py."""
    own = shutil.which("mpiexec", path=Path(sys.executable).parent)
    found = own or shutil.which("mpiexec")
    if found is None:
        pytest.skip("there is no mpiexec")
    if own is None:
        probe = "from mpi4py import MPI; print(MPI.COMM_WORLD.size)"
        done = launched(found, "-c", probe)
        if done.stdout.split() != ["2", "2"]:
            pytest.skip(f"{found} does not launch mpi4py: {done.stderr}")
    return found


@pytest.fixture
def job(mpiexec):
    """Run the program on two ranks."""

    def job(what, folder, *options):
        folder.mkdir(exist_ok=True)
        return launched(mpiexec, *options, PROGRAM, what, folder)

    return job


def well(done):
    assert done.returncode == 0, done.stdout + done.stderr


def test_two_processes_have_the_weights_of_one(job, tmp_path):
    well(job("plain", tmp_path))
    first, second = (np.load(tmp_path / f"{rank}.npy") for rank in (0, 1))
    assert np.array_equal(first, second)
    assert len({(tmp_path / f"{rank}.json").read_text() for rank in (0, 1)}) == 1
    one = built()
    one.net[2].p = 0.0
    one.fit(*data(), EPOCHS, batch_size=16, seed=2)
    # steps times terms of a sum; Adam divides gradients by their size
    assert abs(first - weights(one)).max() <= EPOCHS * 4 * 18 * 2.0**-53


def test_after_a_rank_was_killed_the_job_ends_and_can_be_resumed(job, tmp_path):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    well(job("whole", whole))
    done = job("killed", halves)
    assert done.returncode != 0
    assert "signal 9" in (done.stdout + done.stderr).lower()
    assert checkpoint.load(halves / "training.safetensors").epoch == HALF
    assert not list(halves.glob("*.npy"))
    well(job("resumed", halves))
    for rank in (0, 1):
        assert np.array_equal(np.load(halves / f"{rank}.npy"), np.load(whole / f"{rank}.npy"))


def test_an_error_of_one_process_ends_all(job, tmp_path):
    done = job("failed", tmp_path)
    assert done.returncode != 0
    for rank in (0, 1):
        said = (tmp_path / f"{rank}.txt").read_text()
        assert said == "rank 1 of 2: OSError: the disk is gone"
    assert "RuntimeError: rank 1 of 2: OSError: the disk is gone" in done.stderr
    assert checkpoint.load(tmp_path / "training.safetensors").epoch == HALF


def test_an_error_outside_of_training_ends_the_job_by_way_of_mpi4py(job, tmp_path):
    done = job("failed outside", tmp_path, "-m", "mpi4py")
    assert done.returncode != 0
    assert "OSError: the disk is gone" in done.stderr


def test_the_example_on_two_ranks(mpiexec):
    pytest.importorskip("sklearn")
    example = Path(__file__).parents[2] / "examples" / "18_two_ranks.py"
    done = launched(mpiexec, "-m", "mpi4py", example, "--n", "300", "--no-plot")
    well(done)
    assert done.stdout.startswith("2 ranks, 300 digits")
    assert done.stdout.count("All checks passed.") == 1
