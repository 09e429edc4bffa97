"""The examples with the arguments of a short run, and what goes wrong in them on purpose."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parents[2] / "examples"
RUNS = {
    "acoustic scattering": ("01_acoustic_scattering", ["--n", "256"]),
    "acoustic scattering, study": ("01_acoustic_scattering", ["--n", "320", "--study"]),
    "Gaussian process": ("02_gaussian_process", ["--n", "80"]),
    "capacitance": ("03_capacitance", ["--n", "256"]),
    "spherical harmonics": ("04_spherical_harmonics", ["--n", "100"]),
    "Hilbert": ("05_hilbert", ["--n", "12"]),
    "Kalman filters": ("06_kalman_filters", ["--n", "4000"]),
    "Poisson": ("07_poisson", ["--n", "12", "--quick"]),
    "contraction": ("08_tensor_contraction", ["--n", "16"]),
    "two spheres": ("09_two_spheres", ["--n", "1024"]),
    "large Gaussian process": ("10_large_gaussian_process", ["--n", "600"]),
    "modes on disk": ("11_modes_on_disk", ["--n", "1500"]),
    "modes on disk, HDF5": ("11_modes_on_disk", ["--n", "1500", "--hdf5"]),
    "cluster": ("12_cluster", ["--n", "320"]),
    "digits": ("13_digits", ["--n", "6"]),
    "scattering surrogate": ("14_scattering_surrogate", ["--n", "100"]),
    "saddle": ("15_saddle", ["--n", "100"]),
    "hyperparameters": ("16_hyperparameters", ["--n", "3"]),
    "pruning table": ("17_pruning_table", ["--n", "600"]),
    "two ranks": ("18_two_ranks", ["--n", "300"]),
}
NEEDS = {
    "02_gaussian_process": ["sklearn"],
    "11_modes_on_disk": ["h5py"],
    "12_cluster": ["dask.array", "distributed"],
    "13_digits": ["sklearn", "safetensors"],
    "16_hyperparameters": ["sklearn", "optuna"],
    "17_pruning_table": ["sklearn"],
    "18_two_ranks": ["sklearn"],
}


def spoiled(right, by, which=lambda *args, **keywords: True):
    """The solver `right` with its answer wrong by the factor 1 + `by` in the calls `which`."""

    def wrong(*args, **keywords):
        answer = right(*args, **keywords)
        if not which(*args, **keywords):
            return answer
        if isinstance(answer, tuple):
            return (answer[0] * (1 + by), *answer[1:])
        if hasattr(answer, "residues"):
            answer.x = answer.x * (1 + by)
            return answer
        return answer * (1 + by)

    return wrong


def failures(out):
    """The checks that failed, of what an example printed."""
    return out.split("\nFAILED: ")[1].strip().split("; ") if "\nFAILED: " in out else []
