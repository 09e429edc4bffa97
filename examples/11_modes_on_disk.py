"""The modes of a plucked string, from a file that is only passed over a few times.

A string on [0, 1] is plucked at a fifth of its length and let go.  A camera takes n pictures of
m points of it in half a period, and the film, a matrix A with a column for each picture, is in a
file.  Its singular vectors are the modes of proper orthogonal decomposition [1], as they are sought
in films of flows; here they are known.  With p = 1/5 and J harmonics, Fourier's series

    u(x, t) = sum_j a_j sin(j pi x) cos(j pi t),    a_j = 2 sin(j pi p) / (j^2 pi^2 p (1 - p)),

at x_i = i / (m + 1) and t_k = (k + 1/2) / n has orthogonal sines and orthogonal cosines.  So the
singular values are sqrt((m + 1) n) |a_j| / 2, and the modes are the harmonics.  The fifth,
tenth, ... have a node where the string was plucked, and are absent.

The singular values fall as slowly as 1 / j^2, which is hard for a randomised method.  After q power
iterations, 2 + 2 q passes over the file, it finds a basis Q of k + p columns with the expected
error [2, corollary 10.10]

    |A - Q Q^T A| <= (1 + sqrt(k / (p - 1)) + e sqrt(k + p) sqrt(n - k) / p)^(1 / (2 q + 1)) s_k+1.

By Weyl's theorem no singular value is farther off; A less the k modes adds another s_k+1.

The file is NumPy's, or one of HDF5; the memory limit is an eighth of it.

[1] L. Sirovich, Quarterly of Applied Mathematics 45 (1987) 561-571.
[2] N. Halko, P. G. Martinsson and J. A. Tropp, SIAM Review 53 (2011) 217-288.

    python examples/11_modes_on_disk.py
"""

import sys
import tempfile
import time

import numpy as np
from _common import BLUE, GREEN, GREY, VERMILION, Checks, new_figure, options, save

import mplinalg.tiled

PLUCKED, HARMONICS = 1 / 5, 150
MODES, OVERSAMPLE, POWERS = 12, 10, (0, 1, 2)
POINTS, SHARE = 8, 8
"""Points for each picture; the memory limit is a SHARE-th of the file."""
SOURCE = "Fourier's series, and the bound of Halko, Martinsson and Tropp"


class Film:
    """A = X diag(s) T^T with orthonormal X and T: n pictures of m points."""

    def __init__(self, n):
        self.m, self.n = POINTS * n, n
        j = np.arange(1, HARMONICS + 1)
        a = 2 * np.sin(j * np.pi * PLUCKED) / (j**2 * np.pi**2 * PLUCKED * (1 - PLUCKED))
        x, t = np.arange(1, self.m + 1) / (self.m + 1), (np.arange(n) + 0.5) / n
        self.x = np.sin(np.pi * np.outer(x, j)) * np.sqrt(2 / (self.m + 1))
        self.t = np.cos(np.pi * np.outer(t, j)) * np.sqrt(2 / n)
        self.a = a * np.sqrt((self.m + 1) * n) / 2
        self.singular_values = np.sort(abs(self.a))[::-1]

    @property
    def shape(self):
        """(m, n)"""
        return self.m, self.n

    @property
    def nbytes(self):
        """Of the file."""
        return 8 * self.m * self.n

    def write(self, file):
        """Into anything that takes slices, a block of rows at a time."""
        for start in range(0, self.m, 512):
            file[start : start + 512] = (self.x[start : start + 512] * self.a) @ self.t.T

    def bound(self, power):
        """That of the docstring, over s_k+1."""
        k, p = MODES, OVERSAMPLE
        inner = 1 + np.sqrt(k / (p - 1)) + np.e * np.sqrt(k + p) * np.sqrt(self.n - k) / p
        return inner ** (1 / (2 * power + 1))

    def distance(self, u, s, vh):
        """|A - U diag(s) Vh|: of [X U] diag(a, -s) [T V]^T, with the QR of both brackets."""
        r_left = np.linalg.qr(np.hstack([self.x, u]), mode="r")
        r_right = np.linalg.qr(np.hstack([self.t, vh.T]), mode="r")
        return np.linalg.norm((r_left * np.concatenate([self.a, -s])) @ r_right.T, 2)


class Counted(mplinalg.tiled.TiledMatrix):
    """A matrix that counts the entries that are read of it."""

    entries = 0

    def read(self, rows, columns):
        """As of any TiledMatrix."""
        part = super().read(rows, columns)
        self.entries += part.size
        return part


# -- files ---------------------------------------------------------------------------------------


def numpy_file(folder, film):
    """A .npy file, mapped."""
    file = np.lib.format.open_memmap(f"{folder}/film.npy", "w+", np.float64, film.shape)
    film.write(file)
    file.flush()
    return np.load(f"{folder}/film.npy", mmap_mode="r")


def hdf5_file(folder, film):
    """A dataset of HDF5."""
    try:
        import h5py
    except ImportError:
        sys.exit("--hdf5 needs h5py: pip install h5py")
    chunks = tuple(min(256, size) for size in film.shape)
    file = h5py.File(f"{folder}/film.h5", "w").create_dataset("u", film.shape, float, chunks=chunks)
    film.write(file)
    return file


def draw(args, film, file, errors):
    figure, axes = new_figure([["film", "error"]], size=(9, 4.1))
    panel, step = axes["film"], max(1, film.n // 250)
    part = np.array(file[:: step * POINTS, :])[:, ::step]
    x, t = (np.linspace(0, 1, size) for size in part.shape)
    picture = panel.contourf(x, t, part.T, np.linspace(-1, 1, 21), cmap="coolwarm")
    panel.set(xlabel="x / length", ylabel="t / half a period", title="the string, plucked at 1/5")
    figure.colorbar(picture, label="deflection")
    panel, j = axes["error"], np.arange(1, MODES + 1)
    least = film.singular_values[MODES]
    panel.semilogy(j, film.singular_values[:MODES] / least, "-", color=GREY, label="value itself")
    for (power, error), colour, marker in zip(
        errors.items(), [VERMILION, BLUE, GREEN], "os^", strict=True
    ):
        label = f"error, {2 + 2 * power} passes"
        shown = np.maximum(error / least, 1e-16)
        panel.semilogy(j, shown, marker, color=colour, label=label)
        panel.axhline(film.bound(power), ls="--", lw=0.9, color=colour)
    panel.set(xlabel="singular value", ylabel=f"over the {MODES + 1}th", ylim=(1e-17, 1e3))
    panel.set_title("dashed: the bound")
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small", loc="lower right")
    save(figure, args)


def main(argv=None):
    args = options(
        __doc__, argv, n=1500, least=1000, most=20000, meaning="pictures, of 8 n points each",
        output="modes_on_disk.png",
        flags={"--hdf5": "the file is one of HDF5"},
    )  # fmt: skip
    make, kind = (hdf5_file, "HDF5") if args.hdf5 else (numpy_file, "NumPy's")
    film = Film(args.n)
    limit, u = film.nbytes // SHARE, 2.0**-53
    exact, beyond = film.singular_values[:MODES], film.singular_values[MODES]
    checks, errors = Checks(SOURCE), {}
    with tempfile.TemporaryDirectory(prefix="modes-", ignore_cleanup_errors=True) as folder:
        file = make(folder, film)
        size = f"{film.nbytes / 2**20:.0f} MiB"
        print(f"{film.m} points in {film.n} pictures: {size}, in a file of {kind}")
        print(f"\n{'passes':>6}{'bound':>10}{'read, MiB':>12}{'memory, MiB':>13}")
        for power in POWERS:
            matrix = Counted.from_array(file)
            began = time.perf_counter()
            left, s, right, traffic = mplinalg.tiled.svd(
                matrix, MODES, oversample=OVERSAMPLE, power=power, memory_limit=limit,
                full_output=True,
            )  # fmt: skip
            seconds = time.perf_counter() - began
            passes, bound = matrix.entries / (film.m * film.n), film.bound(power)
            print(f"{passes:>6g}{bound * beyond:>10.2e}{traffic.loaded / 2**20:>12.0f}"
                  f"{traffic.peak / 2**20:>13.1f}")  # fmt: skip
            name, wanted = f"power {power}", 2 + 2 * power
            checks.add(f"{name}: passes", passes, wanted, abs(passes - wanted), 0, seconds)
            errors[power] = abs(s - exact)
            j = errors[power].argmax()
            checks.add(f"{name}: singular value, worst", s[j], exact[j], errors[power][j],
                       bound * beyond)  # fmt: skip
            rest = film.distance(left, s, right)
            # nothing of rank k is nearer to A than s_k+1
            off = max(0.0, beyond - rest, rest - beyond)
            checks.add(f"{name}: A less its modes", rest, beyond, off, bound * beyond)
            checks.add(f"{name}: memory over the limit", traffic.peak, limit,
                       max(0, traffic.peak - limit), 0)  # fmt: skip
        if not args.no_plot:
            draw(args, film, file, errors)
        del matrix, file
    # Singular values of a projection of A, to rounding: none is too large.
    checks.add("singular values, above the exact", s[0], exact[0], (s / exact - 1).max(),
               film.n * u)  # fmt: skip
    for name, q in (("U", left), ("V", right.T)):
        off = np.linalg.norm(q.T @ q - np.eye(MODES), 2)
        checks.add(f"|{name}^T {name} - I|", None, None, off, film.m * u)
    off = np.linalg.norm((left.T @ film.x * film.a) @ film.t.T - s[:, None] * right, 2)
    checks.add("|U^T A - S V^T| / s_1", None, None, off / exact[0], film.m * u)
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
