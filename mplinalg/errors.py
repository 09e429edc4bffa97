"""Exceptions and warnings. They subclass SciPy's, so code written for SciPy catches them."""

from scipy.linalg import LinAlgError as _SciPyLinAlgError
from scipy.linalg import LinAlgWarning as _SciPyLinAlgWarning

__all__ = ["LinAlgError", "LinAlgWarning"]


class LinAlgError(_SciPyLinAlgError):
    """A numerical impossibility: singular, not positive definite, or not solvable as asked.

    Subclass of `scipy.linalg.LinAlgError` (which is `numpy.linalg.LinAlgError`), hence of
    `ValueError`.
    """


class LinAlgWarning(_SciPyLinAlgWarning):
    """The answer returned may be poor, or was not computed in the precision asked for.

    Subclass of `scipy.linalg.LinAlgWarning`, hence of `RuntimeWarning`.
    """
