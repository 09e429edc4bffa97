"""What holds inside a `with` statement: no_grad and precision_scope."""

import threading

import numpy as np
import pytest

from mplinalg.nn import Tensor, current_precision, no_grad, precision_scope, product


def test_no_grad():
    x = Tensor(np.ones(2), requires_grad=True)
    with no_grad():
        assert not (x * x).requires_grad
    with pytest.raises(ValueError), no_grad():
        x + np.ones(3)
    assert (x * x).requires_grad


def test_precision_scope(rng):
    a, b = (rng.standard_normal((8, 8)).astype(np.float32) for _ in range(2))
    x, y = Tensor(a, requires_grad=True), Tensor(b, requires_grad=True)
    with precision_scope("fp16"):
        assert current_precision() == "fp16"
        with precision_scope(None):
            assert current_precision() is None
        z = x @ y
    assert current_precision() is None
    assert np.array_equal(z.data, product(a, b, precision="fp16"))
    g = rng.standard_normal((8, 8)).astype(np.float32)
    z.backward(g)  # outside of the scope, as it was computed inside
    assert np.array_equal(x.grad, product(g, b, transb=True, precision="fp16"))
    assert np.array_equal(y.grad, product(a, g, transa=True, precision="fp16"))
    assert not np.array_equal(x.grad, product(g, b, transb=True))


def test_unknown_precision():
    with pytest.raises(ValueError, match="fp16, bf16"), precision_scope("half"):
        pass


def test_modes_are_those_of_a_thread():
    seen = []
    x = Tensor(np.ones(1), requires_grad=True)
    with no_grad(), precision_scope("bf16"):
        thread = threading.Thread(
            target=lambda: seen.append((current_precision(), (x * x).requires_grad))
        )
        thread.start()
        thread.join()
    assert seen == [(None, True)]
