"""What is said when the numbers are bad: one wording for every path."""

from __future__ import annotations

OVERFLOW = "The solution overflows the range of its dtype; the result holds infinities."
UNDERFLOW = "The solution underflows the range of its dtype; the result may not be accurate."

SUBNORMAL = (
    "The input holds subnormal numbers, which the device takes for zeros; the result may not be "
    "accurate."
)

MODIFIED = (
    "the matrix was modified after it was factored; the factors keep a reference to it, not a "
    "copy: factor it again, or factor a copy"
)


def singular(pivot: int, n: int) -> str:
    """The 1-based `pivot` of an LU factorization is zero."""
    return (
        f"A singular matrix detected: pivot {pivot} of {n} is exactly zero "
        f"(U[{pivot - 1}, {pivot - 1}] = 0)."
    )


def not_definite(order: int) -> str:
    """A Cholesky factorization broke down at a leading minor."""
    return (
        f"The matrix is not positive definite: its leading minor of order {order} is not positive."
    )


def ill_conditioned(rcond: float) -> str:
    """The condition estimate is below the unit roundoff."""
    return f"An ill-conditioned matrix detected: rcond = {rcond}; the result may not be accurate."


def stagnated(omega: float, rcond: float) -> str:
    """Refinement ended short of its test."""
    return (
        f"Refinement stagnated at backward error {omega:.1e} (rcond = {rcond}); "
        "the result may not be accurate."
    )


def climbed(wanted: str, taken: str) -> str:
    """A pinned precision could not deliver."""
    return f"precision={wanted!r} could not deliver; {taken} did."


def no_room(shape: tuple[int, ...], nbytes: int, more: int, reason: str) -> str:
    """Memory ran out."""
    return (
        f"a matrix of shape {shape}, {nbytes:,} bytes, is solved with at least {more:,} bytes more "
        f"({reason}). Free memory where it is, or solve on the host: its memory is larger."
    )
