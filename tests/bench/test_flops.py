"""Operation counts against loops that count, and bytes of the traffic model."""

import numpy as np
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


def test_traffic_of_a_refined_solve():
    n = 1024
    read_and_written = n**2 * (8 + 4)
    factored = 2 / 3 * 4 * n**3 / traffic.BLOCK + 4 * n**2
    three_times = 3 * n**2 * (8 + 4)  # the first x and two corrections: factors and residual
    expected = read_and_written + factored + three_times
    assert traffic.solve(n, 1, "d", report("fp32", "LU + classical", 2)) == pytest.approx(expected)


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


def test_traffic_of_rectangular_matrices():
    m, n = 4000, 1000
    by_gram = traffic.least_squares(m, n, 1, "d", report("fp32", "gram + classical", 2))
    by_qr = traffic.least_squares(m, n, 1, "d", report("fp32", "qr + classical", 2))
    assert 8 * m * n < by_gram < by_qr
    assert traffic.least_squares(m, n, 1, "d", report("fp64", "gelsd")) is None
    tall = traffic.qr_economic(m, n, "d", report("fp64", "gram + CholeskyQR", 1))
    assert tall == pytest.approx(2 * 3 * 8 * m * n)
    assert traffic.qr_economic(m, n, "d", report("fp64", "geqrf")) > 4 * 8 * m * n
    assert np.isfinite(tall)
