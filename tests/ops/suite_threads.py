"""Several threads at once get the bits that one gets alone."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from mplinalg.precision import get_format

from .helpers import DTYPES, Suite, draw

THREADS = 4
ROUNDS = 5


class ThreadSuite(Suite):
    def assert_same_from_threads(self, call):
        """`call` makes its own arrays and gives bytes."""
        alone = call()
        gate = Barrier(THREADS)

        def run():
            gate.wait()
            return [call() for _ in range(ROUNDS)]

        with ThreadPoolExecutor(THREADS) as pool:
            runs = [pool.submit(run) for _ in range(THREADS)]
            assert all(bits == alone for r in runs for bits in r.result())

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_getrf_from_threads(self, rng, dtype):
        x = draw(rng, (257, 257), dtype)

        def call():
            a = self.put(x)
            piv, _ = self.ops.getrf(a.array)
            return a.host().tobytes() + self.to_host(piv).tobytes()

        self.assert_same_from_threads(call)

    @pytest.mark.parametrize("name", ["fp32", "fp16", "fp16x2", "bf16"])
    def test_gemm_from_threads(self, rng, name):
        x, y, z = (draw(rng, (193, 193), "float32") for _ in range(3))

        def call():
            c = self.put(z)
            self.ops.gemm(
                -1.0, self.put(x).array, self.put(y).array, 1.0, c.array, compute=get_format(name)
            )
            return c.host().tobytes()

        self.assert_same_from_threads(call)

    @pytest.mark.parametrize("extended", [False, True])
    @pytest.mark.parametrize("nrhs", [1, 5])
    @pytest.mark.parametrize("dtype", ["float64", "complex64"])
    def test_residual_from_threads(self, rng, dtype, nrhs, extended):
        a = draw(rng, (193, 193), dtype)
        x, b = draw(rng, (193, nrhs), dtype), draw(rng, (193, nrhs), dtype)

        def call():
            arrays = [self.put(m).array for m in (a, x, b)]
            r, d = self.ops.residual(*arrays, extended=extended)
            return b"".join(np.ascontiguousarray(self.to_host(m)).tobytes() for m in (r, d))

        self.assert_same_from_threads(call)
