"""Reads the tensors of a torch checkpoint of the old, pre-zip kind, without torch and without running its pickles.

Such a file is four pickles (a magic number, a protocol version, the writer's type sizes, the tensors as views of named
storages), a fifth with the storages' names in file order, and then each storage: its length as int64 and its raw,
little-endian elements. A pickle can call anything; this reader resolves the four names that a state dict needs, and
refuses the rest.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from copywatch.errors import MachineError

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001

Tensor = NDArray[np.generic]


@dataclass
class _Storage:
    """A named run of elements that tensors are views of; filled once its place in the file is reached."""

    dtype: np.dtype[Any]
    length: int
    elements: Tensor = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True)
class _View:
    """A tensor before its storage was read: offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def materialised(self) -> Tensor:
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        empty = 0 in self.shape
        if min((self.offset, *self.strides, *self.shape)) < 0 or (not empty and last >= self.storage.length):
            raise pickle.UnpicklingError("a tensor reaches outside its storage")
        view = np.lib.stride_tricks.as_strided(
            self.storage.elements[self.offset :],
            self.shape,
            [stride * self.storage.dtype.itemsize for stride in self.strides],
        )
        return np.ascontiguousarray(view).reshape(self.shape)


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_gradients_and_hooks: object
) -> _View:
    return _View(storage, offset, tuple(shape), tuple(strides))


class _StateDictUnpickler(pickle.Unpickler):
    """Resolves what a state dict is made of, and nothing else."""

    _ALLOWED: Mapping[tuple[str, str], object] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
        ("torch", "FloatStorage"): np.dtype("<f4"),
        ("torch", "LongStorage"): np.dtype("<i8"),
    }

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Callable[..., object]:
        try:
            return self._ALLOWED[module, name]  # type: ignore[return-value]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a file of weights") from None

    def persistent_load(self, pid: tuple[object, ...]) -> _Storage:
        match pid:
            case ("storage", np.dtype() as dtype, str() as key, str(), int() as length, None):
                return self.storages.setdefault(key, _Storage(dtype, length))
        raise pickle.UnpicklingError(f"unknown kind of storage: {pid!r}")


def read_legacy_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a legacy checkpoint by name, float32 or int64, C-contiguous.

    Raises:
        MachineError: the file is missing, is of another kind, or holds anything but a state dict.
    """
    try:
        with path.open("rb") as file:
            return _read(file)
    except (OSError, pickle.UnpicklingError, EOFError, AttributeError, TypeError, ValueError, IndexError) as error:
        raise MachineError(f"{path}: not a legacy torch file of weights: {error}") from error


def _read(file: BinaryIO) -> dict[str, Tensor]:
    if _StateDictUnpickler(file).load() != LEGACY_MAGIC or _StateDictUnpickler(file).load() != LEGACY_PROTOCOL:
        raise pickle.UnpicklingError("its magic number or protocol is another")
    if not _StateDictUnpickler(file).load()["little_endian"]:
        raise pickle.UnpicklingError("it is big-endian")
    unpickler = _StateDictUnpickler(file)
    views = unpickler.load()
    for key in _StateDictUnpickler(file).load():
        storage = unpickler.storages[key]
        if int.from_bytes(file.read(8), "little") != storage.length:
            raise pickle.UnpicklingError(f"storage {key} has another length than announced")
        raw = file.read(storage.length * storage.dtype.itemsize)
        storage.elements = np.frombuffer(raw, dtype=storage.dtype, count=storage.length)
    return {name: view.materialised() for name, view in views.items() if isinstance(view, _View)}
