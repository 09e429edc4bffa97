"""Training that can be taken up again: everything in one safetensors file.

The tensors are those of the network and of the optimiser; the metadata holds the rest as JSON, and
a digest of all of it. A file appears whole or not at all. Nothing in it is ever executed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from ..ops import is_on_device, is_on_host
from .checks import count
from .optim import Optimizer
from .scaling import LossScaler
from .schedules import Schedule

Array = Any

__all__ = ["Checkpoint", "check_path", "load", "save"]

_FORMAT, _VERSION = "mplinalg.nn checkpoint", 1
_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes
    ----------
    model : dict
        Arrays by name, NumPy's, as the network's ``state_dict`` gave them.
    optimizer, scaler, schedule : dict or None
        As their ``state_dict`` gave them.
    rngs : dict
        States of bit generators by name.
    epoch : int
        Epochs that are done.
    extra : dict
        What else was saved.
    arrays : dict
        Arrays that were saved beside those of the network, NumPy's.
    """

    model: dict[str, Array]
    optimizer: dict[str, Any] | None = None
    scaler: dict[str, Any] | None = None
    schedule: dict[str, Any] | None = None
    rngs: dict[str, dict[str, Any]] = field(default_factory=dict)
    epoch: int = 0
    extra: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)

    def restore(
        self,
        net: Any = None,
        *,
        optimizer: Optimizer | None = None,
        scaler: LossScaler | None = None,
        schedule: Schedule | None = None,
        rng: np.random.Generator | Mapping[str, np.random.Generator] | None = None,
    ) -> None:
        """Bring what is given into the state that was saved.

        Parameters
        ----------
        net : object, optional
            Its ``load_state_dict`` is called, with arrays.
        optimizer, scaler, schedule : optional
        rng : Generator or dict of str to Generator, optional
            As given to `save`; changed in place.

        Raises
        ------
        ValueError
            Something does not fit, or was not saved; nothing is changed then.
        """
        given = {"optimizer": optimizer, "scaler": scaler, "schedule": schedule}
        states: dict[str, Any] = {name: getattr(self, name) for name in given}
        for name, target in given.items():
            if target is not None and states[name] is None:
                raise ValueError(f"the checkpoint holds no {name}")
        generators = _named(rng)
        for name, generator in generators.items():
            kind = type(generator.bit_generator).__name__
            if name not in self.rngs:
                raise ValueError(f"the checkpoint holds no rng {name!r}; it has {[*self.rngs]}")
            if self.rngs[name].get("bit_generator") != kind:
                raise ValueError(
                    f"rng {name!r} is of {self.rngs[name].get('bit_generator')} in the "
                    f"checkpoint, {kind} was given"
                )
        # what can fail comes first, on the side; then the network, which checks before it changes
        if optimizer is not None:
            try:
                optimizer._restored(states["optimizer"])
            except ValueError as error:
                raise ValueError(f"the checkpoint does not fit: {error}") from None
        before = [(x, x.state_dict()) for x in (scaler, schedule) if x is not None]
        old = {name: generator.bit_generator.state for name, generator in generators.items()}
        try:
            for name in ("scaler", "schedule"):
                target = given[name]
                if target is not None:
                    target.load_state_dict(states[name])
            for name, generator in generators.items():
                generator.bit_generator.state = self.rngs[name]
            if net is not None:
                net.load_state_dict(self.model)
        except BaseException as error:
            for target, state in before:
                target.load_state_dict(state)
            for name, drawn in old.items():
                generators[name].bit_generator.state = drawn
            if isinstance(error, KeyError | TypeError):
                raise ValueError(f"the checkpoint does not fit: {error}") from error
            raise
        if optimizer is not None:
            optimizer.load_state_dict(states["optimizer"])


def save(
    path: str | os.PathLike[str],
    net: Any,
    *,
    optimizer: Optimizer | None = None,
    scaler: LossScaler | None = None,
    schedule: Schedule | None = None,
    rng: np.random.Generator | Mapping[str, np.random.Generator] | None = None,
    epoch: int = 0,
    extra: Mapping[str, Any] | None = None,
    arrays: Mapping[str, Array] | None = None,
) -> None:
    """Write a checkpoint, in the place of an older one.

    Parameters
    ----------
    path : str or path-like
        Whatever goes wrong, the file that was there is kept as it was.
    net : object or mapping
        With a ``state_dict()`` of arrays, or such a mapping.
    optimizer, scaler, schedule : optional
    rng : Generator or dict of str to Generator, optional
        All random numbers that training draws; without them it cannot go on with the same bits.
    epoch : int, optional
        Epochs that are done.
    extra : mapping, optional
        Anything that JSON holds.
    arrays : mapping of str to array, optional
        Others than those of the network.

    Raises
    ------
    ValueError
        The network has no arrays, `extra` is not for JSON, or the folder does not exist.
    TypeError
        Something in the state of the network is not an array of numbers.
    OSError
        The file cannot be written, as on a full disk.
    ImportError
        safetensors is not installed.

    Notes
    -----
    Arrays on a device are copied to the host, which waits for them.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from mplinalg.nn import Linear, checkpoint
    >>> net, other = Linear(3, 2, rng=0), Linear(3, 2, rng=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "net.safetensors")
    ...     checkpoint.save(path, net, epoch=7)
    ...     found = checkpoint.load(path)
    >>> found.restore(other)
    >>> found.epoch, bool((other.weight.data == net.weight.data).all())
    (7, True)
    """
    numpy_format = _safetensors()
    state: Mapping[str, Any] = net if isinstance(net, Mapping) else net.state_dict()
    tensors = {f"model.{name}": _on_host(a, name) for name, a in state.items()}
    if not tensors:
        raise ValueError("the network has no arrays to save")
    described = None
    if optimizer is not None:
        described = optimizer.state_dict()
        remembered = described.pop("arrays")
        tensors |= {f"optimizer.{name}": _on_host(a, name) for name, a in remembered.items()}
    tensors |= {f"arrays.{name}": _on_host(a, name) for name, a in (arrays or {}).items()}
    rest = {
        "optimizer": described,
        "scaler": None if scaler is None else scaler.state_dict(),
        "schedule": None if schedule is None else schedule.state_dict(),
        "rngs": {name: _plain(g.bit_generator.state) for name, g in _named(rng).items()},
        "epoch": count("epoch", epoch, 0),
        "extra": dict(extra or {}),
    }
    try:
        text = json.dumps(rest)
    except (TypeError, ValueError) as error:
        raise ValueError(f"extra cannot be written as JSON: {error}") from None
    metadata = {
        "format": _FORMAT, "version": str(_VERSION), "state": text, "digest": _digest(tensors, text)
    }  # fmt: skip
    from safetensors import SafetensorError

    with _replacing(os.fspath(path)) as temporary:
        try:
            numpy_format.save_file(tensors, temporary, metadata)
        except SafetensorError as error:
            raise OSError(f"{os.fspath(path)}: cannot be written: {error}") from error


def check_path(path: str | os.PathLike[str]) -> None:
    """Find out what would keep `save` from writing there, before hours are spent.

    Parameters
    ----------
    path : str or path-like

    Raises
    ------
    ValueError, PermissionError
        The folder does not exist or cannot be written to, or `path` is one.
    ImportError
        safetensors is not installed.
    """
    _safetensors()
    _target(os.fspath(path))


def load(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    Checkpoint

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is truncated, altered, or no checkpoint of this library.
    ImportError
        safetensors is not installed.
    """
    _safetensors()
    from safetensors import SafetensorError, safe_open

    name = os.fspath(path)
    if not os.path.exists(name):
        raise FileNotFoundError(f"{name}: no such file")
    if not os.path.isfile(name):
        raise ValueError(f"{name}: not a regular file")
    try:
        with safe_open(name, "np") as file:
            metadata = file.metadata() or {}
            _check_format(metadata, name)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{name}: not a safetensors file, or damaged: {error}") from error
    text = metadata.get("state", "")
    if metadata.get("digest") != _digest(tensors, text):
        raise ValueError(f"{name}: damaged, its content does not belong to its digest")
    return _as_checkpoint(json.loads(text), tensors)


def _check_format(metadata: Mapping[str, str], name: str) -> None:
    if metadata.get("format") != _FORMAT:
        raise ValueError(
            f"{name}: a safetensors file, but no checkpoint of mplinalg.nn; its format is "
            f"{metadata.get('format')!r}, not {_FORMAT!r}"
        )
    if metadata.get("version") != str(_VERSION):
        raise ValueError(
            f"{name}: a checkpoint of version {metadata.get('version')}; this is for {_VERSION}"
        )


def _as_checkpoint(state: dict[str, Any], tensors: dict[str, Array]) -> Checkpoint:
    parts: dict[str, dict[str, Array]] = {"model": {}, "optimizer": {}, "arrays": {}}
    for key, a in tensors.items():
        part, _, name = key.partition(".")
        parts[part][name] = a
    optimizer = state["optimizer"]
    if optimizer is not None:
        optimizer = {**optimizer, "arrays": parts["optimizer"]}
    rngs = {name: _lively(generator) for name, generator in state["rngs"].items()}
    rest = {name: state[name] for name in ("scaler", "schedule", "epoch", "extra")}
    return Checkpoint(parts["model"], optimizer, rngs=rngs, arrays=parts["arrays"], **rest)


# -- pieces -------------------------------------------------------------------------------------


def _safetensors() -> ModuleType:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("checkpoints need safetensors: pip install 'mplinalg[nn]'") from error
    return safetensors.numpy


def _on_host(a: Any, name: str) -> Array:
    if is_on_device(a):
        a = a.get()
    if not is_on_host(a) or a.dtype.kind not in "biuf" or a.dtype.itemsize > 8:
        kind = a.dtype if is_on_host(a) else type(a).__name__
        raise TypeError(f"{name!r} must be an array of numbers to be saved; got {kind}")
    return np.asarray(a, a.dtype.newbyteorder("="), order="C")


def _digest(tensors: Mapping[str, Array], text: str) -> str:
    """Of names, dtypes, shapes and bytes, and the text."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        a = tensors[name]
        digest.update(f"{name}{a.dtype.str}{a.shape}".encode())
        digest.update(a.reshape(-1).view(np.uint8).data if a.size else b"")
    return digest.hexdigest()


def _named(rng: Any) -> dict[str, np.random.Generator]:
    named = {} if rng is None else dict(rng) if isinstance(rng, Mapping) else {"rng": rng}
    for name, generator in named.items():
        kind = type(getattr(generator, "bit_generator", None)).__name__
        if kind not in _GENERATORS:
            raise TypeError(
                f"rng {name!r} must be a NumPy Generator of {', '.join(_GENERATORS)}; "
                f"got {generator!r}"
            )
    return named


def _plain(state: Any) -> Any:
    """The state of a bit generator without arrays."""
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items()}
    if isinstance(state, np.ndarray):
        return {"array": state.tolist(), "dtype": state.dtype.name}
    return int(state) if isinstance(state, np.integer) else state


def _lively(state: Any) -> Any:
    """What `_plain` was made of."""
    if not isinstance(state, dict):
        return state
    if set(state) == {"array", "dtype"}:
        return np.array(state["array"], dtype=state["dtype"])
    return {key: _lively(value) for key, value in state.items()}


def _target(name: str) -> str:
    """The file behind links."""
    target = os.path.realpath(name)
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise ValueError(f"{name}: cannot be written, the folder {folder} does not exist")
    if os.path.isdir(target):
        raise ValueError(f"{name}: cannot be written, it is a folder")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{name}: cannot be written, nor anything else in {folder}")
    return target


@contextlib.contextmanager
def _replacing(name: str) -> Iterator[str]:
    """A file to write that takes the place of `name` when the block ends well."""
    target = _target(name)
    folder, base = os.path.split(target)
    temporary = os.path.join(folder, f".{base}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb"):
            mode = os.stat(target if os.path.exists(target) else temporary).st_mode
        yield temporary
        os.chmod(temporary, mode & 0o7777)  # safetensors lets nobody but the owner read
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
