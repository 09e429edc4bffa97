"""How ranks add up an array: by mpi4py on the host, by NCCL through CuPy on devices.

All that `parallel` asks of a communicator is a rank, a size, and the sum of an array over all ranks
in place, with the same bits on all of them. mpi4py and CuPy are not imported here: a communicator
is known by its methods.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from ..ops import is_on_host, ops_for

Array = Any

__all__ = ["Link", "MpiLink", "NcclLink", "linked"]


class Link(Protocol):
    """A communicator.

    Attributes
    ----------
    rank, size : int
    xp : module
        Of the arrays that it adds up: numpy or cupy.
    """

    rank: int
    size: int
    xp: Any

    def sum(self, a: Array) -> None:
        """a <- the sum of a over all ranks."""


class MpiLink:
    """A communicator of mpi4py, on NumPy arrays.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm

    Notes
    -----
    One ``MPI_Allreduce`` in place. The MPI standard has it give identical results on all ranks.
    """

    def __init__(self, comm: Any) -> None:
        self._comm = comm
        self.xp: Any = np
        self.rank, self.size = comm.Get_rank(), comm.Get_size()

    def sum(self, a: Array) -> None:
        """a <- the sum of a over all ranks."""
        self._comm.Allreduce(None, a)  # None: in place


class NcclLink:
    """A communicator of ``cupyx.distributed``, on CuPy arrays. Not measured, and not run on a GPU.

    Parameters
    ----------
    comm : cupyx.distributed.NCCLBackend
    xp : module
        cupy.

    Notes
    -----
    One ``all_reduce`` in place, on the current stream; that it gives the same bits on all ranks is
    how NCCL's rings and trees work: each sum is made once and sent on. The size, which the backend
    keeps to itself, is the sum of ones. NCCL waits forever for a rank that was killed: have a
    launcher end the job, such as mpiexec with ``NCCLBackend(n, rank, use_mpi=True)``.
    """

    def __init__(self, comm: Any, xp: Any) -> None:
        self._comm, self.xp = comm, xp
        ones = xp.ones(1, np.float64)
        self.sum(ones)
        self.rank, self.size = int(comm.rank), int(ones[0])

    def sum(self, a: Array) -> None:
        """a <- the sum of a over all ranks."""
        self._comm.all_reduce(a, a, op="sum")


def linked(comm: Any, like: Array) -> Link:
    """The link of a communicator, for arrays that are where `like` is.

    Raises
    ------
    TypeError
        It is no communicator that is known, or not one for arrays like that.
    """
    on_host = is_on_host(like)
    if hasattr(comm, "Allreduce") and hasattr(comm, "Get_rank"):
        if not on_host:
            raise TypeError("an mpi4py communicator is for NumPy arrays; on a device, give NCCL's")
        return MpiLink(comm)
    if hasattr(comm, "all_reduce") and hasattr(comm, "rank"):
        if on_host:
            raise TypeError("an NCCL communicator is for CuPy arrays; on the host, give mpi4py's")
        return NcclLink(comm, ops_for(like).xp)
    raise TypeError(
        "comm must be an mpi4py communicator or a cupyx.distributed.NCCLBackend; "
        f"got {type(comm).__name__}"
    )
