"""Operation counts against loops that count, and bytes of the traffic model."""

import pytest

from mplinalg import SolveReport, Status
from mplinalg.bench import flops, traffic
from mplinalg.report import RungOutcome


def counted_lu(n):
    """Additions, multiplications and divisions of Gaussian elimination."""
    return sum((n - k) + 2 * (n - k) ** 2 for k in range(1, n + 1))


def counted_cholesky(n):
    return sum(1 + (n - k) + (n - k) * (n - k + 1) for k in range(1, n + 1))


def counted_reflections(rows, columns, steps):
    """Applying `steps` reflectors of m - j rows to what is right of column j: 4 an entry."""
    return sum(4 * (rows - j) * (columns - j - 1) for j in range(steps))


@pytest.mark.parametrize("n", [50, 400])
def test_lu_and_cholesky(n):
    assert flops.lu_solve(n, 0, "d") == pytest.approx(counted_lu(n), rel=2 / n)
    assert flops.cholesky_solve(n, 0, "d") == pytest.approx(counted_cholesky(n), rel=2 / n)
    # two triangular solves a column, n^2 each but for n
    assert flops.lu_solve(n, 3, "d") - flops.lu_solve(n, 0, "d") == pytest.approx(3 * 2 * n**2)
    assert flops.cholesky_solve(n, 3, "d") - flops.cholesky_solve(n, 0, "d") == 3 * 2 * n**2


@pytest.mark.parametrize(("m", "n"), [(100, 100), (400, 100), (1000, 200)])
def test_qr(m, n):
    # Q is formed by applying the reflectors to the identity, from the last one back
    formed = sum(4 * (m - j) * (n - j) for j in range(n))
    expected = counted_reflections(m, n, n) + formed
    assert flops.qr_economic(m, n, "d") == pytest.approx(expected, rel=5 / n)
    assert flops.qr_economic(m, n, "d") == pytest.approx(4 * m * n**2 - 4 / 3 * n**3, rel=5 / n)


@pytest.mark.parametrize(("m", "n", "nrhs"), [(100, 100, 1), (400, 100, 1), (400, 100, 50)])
def test_least_squares(m, n, nrhs):
    applied = sum(4 * (m - j) * nrhs for j in range(n))
    expected = counted_reflections(m, n, n) + applied + n**2 * nrhs
    assert flops.least_squares(m, n, nrhs, "d") == pytest.approx(expected, rel=5 / n)


def test_small_counts_by_hand():
    assert flops.gemm(3, "d") == 54  # 27 products, 27 sums
    assert flops.triangular_solve(2, 1, "d") == 4  # two divisions, a product, a difference
    assert flops.triangular_solve(3, 2, "d") == 9 * 2
    assert flops.lu_solve(3, 2, "d") == 2 / 3 * 27 + 2 * 9 * 2 == 54
    assert flops.cholesky_solve(3, 2, "d") == 27 / 3 + 2 * 9 * 2 == 45
    # m = 4, n = 3, by Working Note 41, products and sums added:
    # geqrf 2 m n^2 - 2/3 n^3 + m n + n^2 + 14/3 n = 72 - 18 + 12 + 9 + 14
    # orgqr 2 m n^2 - 2/3 n^3 + 2 n^2 - m n - 4/3 n = 72 - 18 + 18 - 12 - 4
    assert flops.qr_economic(4, 3, "d") == pytest.approx(89 + 56, rel=1e-14)
    # geqrf; ormqr on two columns, 2 (4 m n - 2 n^2 + 3 n) = 2 (48 - 18 + 9); trsm, 9 * 2
    assert flops.least_squares(4, 3, 2, "d") == pytest.approx(89 + 78 + 18, rel=1e-14)


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_counts_four_times(dtype):
    assert flops.gemm(10, dtype) == 4 * flops.gemm(10, "f")
    assert flops.lu_solve(10, 2, dtype) == 4 * flops.lu_solve(10, 2, "d")
    assert flops.cholesky_solve(10, 2, dtype) == 4 * flops.cholesky_solve(10, 2, "d")
    assert flops.qr_economic(10, 4, dtype) == 4 * flops.qr_economic(10, 4, "d")
    assert flops.least_squares(10, 4, 1, dtype) == 4 * flops.least_squares(10, 4, 1, "d")


def report(precision, method, iterations=0, inner=0):
    rungs = (RungOutcome(precision, method, "converged"),)
    return SolveReport(Status.CONVERGED, rungs, precision, iterations, inner)


# n = 3 blocks of the model, so that n^3 / BLOCK = 3 n^2: bytes are so many n^2, and columns

N = 3 * 256


def test_traffic_of_a_refined_solve():
    """fp64 to fp32 moves 8 + 4; LU 4 (2/3 3 + 1); three passes over A and the factors 3 (8 + 4).

    Columns: 5 for the first x, 8 for each of two corrections.
    """
    expected = (12 + 12 + 36) * N**2 + (5 + 2 * 8) * 8 * N * 2
    assert traffic.BLOCK == 256
    assert traffic.solve(N, 2, "d", report("fp32", "LU + classical", 2)) == pytest.approx(
        expected, rel=1e-14
    )


def test_traffic_of_a_positive_definite_solve():
    """Cholesky 4 (1/3 3 + 1); one correction and three inner iterations: 1 + 1 + 3 passes."""
    of_report = report("fp32", "Cholesky + gmres", 1, 3)
    found = traffic.solve(N, 1, "d", of_report, is_symmetric=True)
    expected = (12 + 8 + 5 * 12) * N**2 + (5 + 8 + 3 * 4) * 8 * N
    assert found == pytest.approx(expected, rel=1e-14)


def test_traffic_of_many_columns():
    """257 columns are two blocks, so the first x reads A and the factors twice: 2 (8 + 8)."""
    found = traffic.solve(N, 257, "d", report("fp64", "LU"))
    assert found == pytest.approx((16 + 24 + 32) * N**2 + 5 * 8 * N * 257, rel=1e-14)


def test_traffic_of_rectangular_matrices():
    """m = 2 n, so m n = 2 n^2, one correction, one inner iteration.

    fp64 to fp32 moves 2 (8 + 4); the Gram matrix 4 (2 + 1/3 3); Householder, of m n^2 / 2 - n^3 / 6
    = 5/6 n^3, 4 (2 5/6 3 + 2); each of three steps 2 8 2 + 4. Columns: 3 + 3 + 2 of m, 4 + 7 + 6 of
    n.
    """
    columns = (8 * 2 + 17) * 8 * N
    by_gram = traffic.least_squares(2 * N, N, 1, "d", report("fp32", "gram + gmres", 1, 1))
    assert by_gram == pytest.approx((24 + 12 + 3 * 36) * N**2 + columns, rel=1e-14)
    by_qr = traffic.least_squares(2 * N, N, 2, "d", report("fp32", "qr + gmres", 1, 1))
    assert by_qr == pytest.approx((24 + 28 + 3 * 36) * N**2 + 2 * columns, rel=1e-14)
    assert traffic.least_squares(2 * N, N, 1, "d", report("fp64", "gelsd")) is None


def test_traffic_of_qr():
    """m = 2 n. geqrf: 2 (8 + 8) to copy, and 8 (2 5/6 3 + 2) for R and again for Q."""
    by_householder = traffic.qr_economic(2 * N, N, "d", report("fp64", "geqrf"))
    assert by_householder == pytest.approx((32 + 2 * 56) * N**2, rel=1e-14)
    by_gram = traffic.qr_economic(2 * N, N, "d", report("fp64", "gram + CholeskyQR", 1))
    assert by_gram == pytest.approx(2 * 3 * 8 * 2 * N**2, rel=1e-14)


def test_what_moves_more_bytes():
    n = 512
    low, high = report("fp32", "LU", 2), report("fp64", "LU", 2)
    assert traffic.solve(n, 1, "d", low) < traffic.solve(n, 1, "d", high)
    assert 2 * traffic.solve(n, 1, "d", low) == traffic.solve(n, 1, "D", low)
    assert 2 * traffic.solve(n, 1, "f", low) == traffic.solve(n, 1, "d", high)
    steps = report("fp32", "LU", 2, 5)
    assert traffic.solve(n, 1, "d", low) < traffic.solve(n, 1, "d", steps)
    assert traffic.solve(n, 1, "d", low, is_symmetric=True) < traffic.solve(n, 1, "d", low)
    assert traffic.solve(n, 9 * traffic.BLOCK, "d", low) > 2 * traffic.solve(n, 1, "d", low)
