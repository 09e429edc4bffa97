"""cuSOLVER on column-major views: in place, info and pivots left on the device."""

import itertools
import re

import numpy as np
import pytest

from ...ops.helpers import (
    DTYPES,
    F_LIKE,
    NRHS,
    SHAPES,
    SQUARE,
    Placed,
    allowed,
    cabs1,
    draw,
    flags,
    is_complex,
    is_small,
    op,
    reflector_product,
    same_bits,
    swapped,
    wide,
)


def shape(*numbers):
    return re.escape(str(numbers))


def definite(rng, n, dtype):
    x = draw(rng, (n, n), dtype)
    return np.asarray(x @ x.conj().T + n * np.eye(n), dtype)


@pytest.fixture
def put(on_device):
    """put(x, "F-view"): `x` on the device in that layout."""
    return lambda x, layout="F": Placed(on_device, x, layout)


@pytest.fixture
def lapack(cupy):
    from mplinalg.kernels.cuda import lapack

    return lapack


def assert_solves(full, x, y, dtype):
    """|full X - Y| <= 30 n u (|full| |X| + |Y|), normwise by columns."""
    residual = np.max(cabs1(full @ wide(x) - wide(y)), axis=0, initial=0)
    sizes = np.max(np.sum(cabs1(full), axis=1), initial=0) * np.max(cabs1(x), axis=0, initial=0)
    assert is_small(residual, allowed(len(full), dtype) * (sizes + np.max(cabs1(y), 0, initial=0)))


# -- LU ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", F_LIKE)
def test_getrf(lapack, put, rng, layout, dtype):
    for m, n in [*SHAPES, *((size, 38 - size) for size in range(1, 38, 5))]:
        x = draw(rng, (m, n), dtype)
        a = put(x, layout)
        piv, info = lapack.getrf(a.array)
        assert (piv.dtype, piv.shape, info.dtype, info.shape) == (
            np.int32,
            (min(m, n),),
            np.int32,
            (1,),
        )
        assert info.get() == 0
        lu, pivots = wide(a.host()), piv.get()
        assert np.all((np.arange(min(m, n)) <= pivots) & (pivots < max(m, 1)))
        k = min(m, n)
        l, u = np.tril(lu[:, :k], -1) + np.eye(m, k), np.triu(lu[:k])
        error = cabs1(l @ u - swapped(wide(x), pivots))
        assert is_small(error, allowed(k, dtype) * (cabs1(l) @ cabs1(u))), (m, n)
        a.assert_rest_untouched()


@pytest.mark.parametrize("dtype", DTYPES)
def test_getrf_of_a_singular_matrix_says_where(lapack, put, rng, dtype):
    x = np.triu(draw(rng, (7, 7), dtype), 1) + np.eye(7, dtype=dtype)
    for zeros in ([4], [2, 5]):
        y = x.copy()
        y[zeros, zeros] = 0
        _, info = lapack.getrf(put(y, "F-view").array)
        assert info.get() == zeros[0] + 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_getrs(lapack, put, rng, dtype):
    for n, nrhs, trans in itertools.product(SQUARE, NRHS, flags(dtype)):
        x, y = draw(rng, (n, n), dtype), draw(rng, (n, nrhs), dtype)
        for la, lb in itertools.product(F_LIKE, F_LIKE):
            a, b = put(x, la), put(y, lb)
            piv, _ = lapack.getrf(a.array)
            factors, pivots = a.host(), piv.get()
            lapack.getrs(a.array, piv, b.array, trans)
            # op(A) is what the factors multiply to: their own error is not judged here
            l, u = np.tril(wide(factors), -1) + np.eye(n), np.triu(wide(factors))
            product = swapped(l @ u, pivots, forward=False)
            z, bound = (
                wide(b.host()),
                op(swapped(cabs1(l) @ cabs1(u), pivots, forward=False), trans),
            )
            residual = cabs1(op(product, trans) @ z - wide(y))
            assert is_small(
                np.max(residual, 0, initial=0),
                allowed(n, dtype) * np.max(bound @ cabs1(z) + cabs1(y), 0, initial=0),
            ), (n, nrhs, trans)
            b.assert_rest_untouched()
            assert same_bits(a.host(), factors)
            assert same_bits(piv.get(), pivots)


# -- Cholesky ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lower", [True, False])
def test_potrf_and_potrs(lapack, put, rng, lower, dtype):
    """The other triangle is not read."""
    for n, nrhs, la in itertools.product(SQUARE, NRHS, F_LIKE):
        x, y = definite(rng, n, dtype), draw(rng, (n, nrhs), dtype)
        stored = np.tril(x) if lower else np.triu(x)
        stored[np.triu_indices(n, 1) if lower else np.tril_indices(n, -1)] = np.nan
        a, b = put(stored, la), put(y, F_LIKE[nrhs % 2])
        info = lapack.potrf(a.array, lower)
        assert (info.dtype, info.shape, info.get()[0]) == (np.int32, (1,), 0)
        factor = wide(np.tril(a.host()) if lower else np.triu(a.host()).conj().T)
        error = cabs1(factor @ factor.conj().T - wide(x))
        assert is_small(error, allowed(n, dtype) * (cabs1(factor) @ cabs1(factor).T))
        a.assert_rest_untouched()
        lapack.potrs(a.array, b.array, lower)
        assert_solves(wide(x), b.host(), y, dtype)
        b.assert_rest_untouched()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lower", [True, False])
def test_potrf_of_an_indefinite_matrix_says_where(lapack, put, rng, lower, dtype):
    x = definite(rng, 7, dtype)
    x[4, 4] = -1
    assert lapack.potrf(put(x, "F-view").array, lower).get() == 5


# -- QR ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", F_LIKE)
def test_geqrf(lapack, put, rng, layout, dtype):
    for m, n in SHAPES:
        x = draw(rng, (m, n), dtype)
        a = put(x, layout)
        tau = lapack.geqrf(a.array)
        assert (tau.dtype, tau.shape) == (np.dtype(dtype), (min(m, n),))
        qr = a.host()
        q = reflector_product(qr, tau.get())
        bound = allowed(max(m, n), dtype)
        assert is_small(np.linalg.norm(q.conj().T @ q - np.eye(m)), bound)
        r = np.vstack([np.triu(wide(qr[:n])), np.zeros((max(m - n, 0), n))])
        assert is_small(np.linalg.norm(q @ r - x), bound * np.linalg.norm(x))
        a.assert_rest_untouched()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("side", ["L", "R"])
def test_ormqr(lapack, cupy, put, rng, side, dtype):
    for m, k, other in [(1, 1, 1), (7, 3, 5), (7, 7, 2), (31, 5, 1), (5, 3, 37), (5, 5, 0)]:
        for layout, trans in itertools.product(
            F_LIKE, ["N", "T"] if not is_complex(dtype) else "NC"
        ):
            a = put(draw(rng, (m, k), dtype), layout)
            tau = lapack.geqrf(a.array)
            y = draw(rng, (m, other) if side == "L" else (other, m), dtype)
            c = put(y, layout)
            qr = a.host()
            for reflectors in (tau, cupy.repeat(tau, 2)[::2]):
                c = put(y, layout)
                lapack.ormqr(side, trans, a.array, reflectors, c.array)
                q = op(reflector_product(qr, tau.get()), trans)
                expected = q @ wide(y) if side == "L" else wide(y) @ q
                error = np.linalg.norm(c.host() - expected)
                assert is_small(error, allowed(m, dtype) * np.linalg.norm(y)), (m, k, other)
                c.assert_rest_untouched()
                assert same_bits(a.host(), qr)


# -- what the host sees ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_waits(lapack, cupy, rng, dtype, nothing_crosses):
    x = definite(rng, 7, dtype)
    for factor in (
        lambda a, b: lapack.getrs(a, lapack.getrf(a)[0], b),
        lambda a, b: (lapack.potrf(a, True), lapack.potrs(a, b, True)),
        lambda a, b: lapack.ormqr("L", "C", a, lapack.geqrf(a), b),
    ):
        a, b = cupy.asarray(x, order="F"), cupy.asarray(draw(rng, (7, 2), dtype), order="F")
        with nothing_crosses():
            factor(a, b)


@pytest.mark.parametrize("name", ["getrf", "potrf", "geqrf"])
def test_a_matrix_too_large_for_32_bits_is_refused_with_the_reason(lapack, monkeypatch, name):
    def refuses(*_):
        raise lapack.cusolver.CUSOLVERError(3)

    monkeypatch.setattr(lapack.cusolver, f"d{name}_bufferSize", refuses)
    dtype = np.dtype("float64")
    with pytest.raises(RuntimeError, match=rf"{name}.*{shape(46341, 46341)}.*32-bit interface"):
        lapack._workspace(name, dtype, (46341, 46341))
    with pytest.raises(lapack.cusolver.CUSOLVERError):  # that is not why
        lapack._workspace(name, dtype, (46340, 46340))


# -- what is refused -----------------------------------------------------------------------------


def calls(cupy, lapack, a, b):
    """Every routine of two matrices, on `a` of order 3 and `b` of shape (3, 2)."""
    piv = cupy.arange(3, dtype="int32")
    return {
        "getrs": lambda: lapack.getrs(a, piv, b),
        "potrs": lambda: lapack.potrs(a, b, True),
        "ormqr": lambda: lapack.ormqr("L", "N", a, a[:, 0], b),
    }


def single_calls(lapack, a):
    return {
        "getrf": lambda: lapack.getrf(a),
        "potrf": lambda: lapack.potrf(a, True),
        "geqrf": lambda: lapack.geqrf(a),
    }


def test_what_is_no_lapack_dtype_is_refused(lapack, cupy):
    for first, second in [("float32", "float64"), ("float16", "float16"), ("int64", "int64")]:
        a, b = cupy.ones((3, 3), first, order="F"), cupy.ones((3, 2), second, order="F")
        named = calls(cupy, lapack, a, b)
        if first == second:
            named |= single_calls(lapack, a)
        for name, call in named.items():
            with pytest.raises(
                TypeError, match=f"{name} takes arrays of one LAPACK dtype.*{first}"
            ):
                call()


def test_arrays_of_the_host_are_refused(lapack, cupy):
    a, b = np.ones((3, 3), order="F"), cupy.ones((3, 2), order="F")
    for name, call in (calls(cupy, lapack, a, b) | single_calls(lapack, a)).items():
        with pytest.raises(TypeError, match=f"{name} takes CuPy arrays; got ndarray"):
            call()
    a = cupy.ones((3, 3), order="F")
    for piv in (np.arange(3, dtype=np.int32), cupy.arange(3)):
        with pytest.raises(TypeError, match="getrs takes int32 pivots on the device"):
            lapack.getrs(a, piv, b)


def test_what_is_not_column_major_is_refused(lapack, cupy):
    whole, b = cupy.ones((6, 6), order="F"), cupy.ones((3, 2), order="F")
    for a in (whole[:3, :3].T, whole[::2, ::2], whole[2::-1, :3], whole[:3, 2::-1]):
        for name, call in (calls(cupy, lapack, a, b) | single_calls(lapack, a)).items():
            with pytest.raises(ValueError, match=f"{name}.*column-major.*{shape(3, 3)}"):
                call()


def test_shapes_that_do_not_fit_are_refused_and_named(lapack, cupy):
    def ones(*of):
        return cupy.ones(of, order="F")

    a, b, c, wide_, tall = ones(3, 3), ones(4, 2), ones(3, 2), ones(2, 5), ones(5, 2)
    piv, s = cupy.arange(3, dtype="int32"), shape
    refused = [
        (lambda: lapack.getrs(a, piv, b), [s(3, 3), s(4, 2)]),
        (lambda: lapack.getrs(a, piv[:2], c), [s(3, 3), s(2), s(3, 2)]),
        (lambda: lapack.getrs(wide_, piv, c), [s(2, 5)]),
        (lambda: lapack.potrf(tall, True), [s(5, 2)]),
        (lambda: lapack.potrs(a, b, True), [s(3, 3), s(4, 2)]),
        (lambda: lapack.ormqr("L", "N", a, ones(3), b), [s(3, 3), s(4, 2)]),
        (lambda: lapack.ormqr("R", "N", a, ones(3), b), [s(3, 3), s(4, 2)]),
        (lambda: lapack.ormqr("L", "N", tall, ones(3), ones(5, 1)), [s(5, 2), s(3)]),
    ]
    for call, shapes in refused:
        with pytest.raises(ValueError, match=".*".join(shapes)):
            call()
