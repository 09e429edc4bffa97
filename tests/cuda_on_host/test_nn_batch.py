"""nn_batch.cu: the samples of a step."""

import numpy as np
import pytest

FILE = "nn_batch.cu"
KINDS = {"float": np.float32, "double": np.float64, "long long": np.int64}


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("shape", [(9, 1), (23, 3, 37)], ids=str)
@pytest.mark.parametrize("is_ordered", [False, True])
def test_take_rows(compiled, rng, schedule, checked, kind, shape, is_ordered):
    """Every full batch; what is behind the last one is not read."""
    source = rng.integers(-(2**20), 2**20, shape).astype(KINDS[kind])
    order = rng.permutation(shape[0]) if is_ordered else None
    batch, state = 4, np.zeros(16)
    rows = source if order is None else source[order]
    for step in range(shape[0] // batch):
        state[2] = step
        target = np.full((batch, *shape[1:]), 77, source.dtype)
        compiled(FILE, checked=checked)[f"take_rows<{kind}>"](
            2, 256,
            [target.size, target.size // batch, batch, source, order, state, target],
            schedule=schedule,
        )  # fmt: skip
        np.testing.assert_array_equal(target, rows[step * batch : (step + 1) * batch])
