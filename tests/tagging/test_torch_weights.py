"""The reader of legacy torch files, on files written here the way torch wrote them."""

from __future__ import annotations

import io
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from copywatch.errors import MachineError
from copywatch.tagging.torch_weights import LEGACY_MAGIC, LEGACY_PROTOCOL, read_legacy_state_dict


class Global:
    """Stands for a name that the pickle is to contain, without the module having to exist."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


# The pickler in Python: the one in C cannot be taught to write names of modules that are not there.
PurePickler: Any = pickle._Pickler


class TorchPickler(PurePickler):  # type: ignore[misc]
    """Writes `Global`s as names and `Stored`s as persistent ids, in protocol 2."""

    def save(self, value: Any, *args: Any, **options: Any) -> None:
        if isinstance(value, Global):
            self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Stored):
            self.save(value.pid())
            self.write(pickle.BINPERSID)
        elif isinstance(value, Call):
            self.save(value.target)
            self.save(value.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(value, *args, **options)


class Stored:
    def __init__(self, kind: str, key: str, length: int) -> None:
        self.kind, self.key, self.length = kind, key, length

    def pid(self) -> tuple[object, ...]:
        return ("storage", Global("torch", self.kind), self.key, "cpu", self.length, None)


class Call:
    def __init__(self, target: Global, *arguments: object) -> None:
        self.target, self.arguments = target, arguments


REBUILD = Global("torch._utils", "_rebuild_tensor_v2")


def dumped(value: object) -> bytes:
    file = io.BytesIO()
    TorchPickler(file, 2).dump(value)
    return file.getvalue()


def legacy_file(state: object, storages: dict[str, NDArray[Any]], *, magic: int = LEGACY_MAGIC) -> bytes:
    head = [dumped(magic), dumped(LEGACY_PROTOCOL), dumped({"little_endian": True}), dumped(state), dumped([*storages])]
    return b"".join(head + [struct.pack("<q", one.size) + one.tobytes() for one in storages.values()])


def tensor(kind: str, key: str, length: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Call:
    return Call(
        REBUILD, Stored(kind, key, length), offset, shape, strides, False, Call(Global("collections", "OrderedDict"))
    )


FLOATS = np.arange(24, dtype="<f4")


def test_tensors_with_offsets_and_strides(tmp_path: Path) -> None:
    state = {
        "whole": tensor("FloatStorage", "1", 24, 0, (2, 3, 4), (12, 4, 1)),
        "turned": tensor("FloatStorage", "1", 24, 4, (4, 3), (1, 4)),
        "count": tensor("LongStorage", "2", 1, 0, (), ()),
        "none": tensor("FloatStorage", "1", 24, 0, (0, 3), (3, 1)),
        "note": "not a tensor",
    }
    path = tmp_path / "weights.pth"
    path.write_bytes(legacy_file(state, {"1": FLOATS, "2": np.array([7], dtype="<i8")}))
    tensors = read_legacy_state_dict(path)
    assert np.array_equal(tensors["whole"], FLOATS.reshape(2, 3, 4))
    assert np.array_equal(tensors["turned"], FLOATS[4:16].reshape(3, 4).T)
    assert tensors["turned"].flags.c_contiguous
    assert tensors["count"] == 7
    assert tensors["none"].shape == (0, 3)
    assert set(tensors) == {"whole", "turned", "count", "none"}


@pytest.mark.parametrize(
    "state",
    [
        {"evil": Call(Global("os", "system"), "touch owned")},
        {"evil": Call(Global("builtins", "eval"), "1")},
        {"evil": Call(Global("numpy", "dtype"), "f4")},
    ],
)
def test_nothing_else_is_called(tmp_path: Path, state: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    path.write_bytes(legacy_file(state, {}))
    with pytest.raises(MachineError, match="no place in a file of weights"):
        read_legacy_state_dict(path)
    assert [one.name for one in tmp_path.iterdir()] == ["weights.pth"]


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(20, (5,), (1,)), (0, (3,), (12,)), (-1, (2,), (1,)), (0, (-2,), (1,)), (5, (2,), (-1,))],
)
def test_views_outside_their_storage(
    tmp_path: Path, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(legacy_file({"x": tensor("FloatStorage", "1", 24, offset, shape, strides)}, {"1": FLOATS}))
    with pytest.raises(MachineError, match="outside its storage"):
        read_legacy_state_dict(path)


def test_other_files(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    whole = legacy_file({"x": 1}, {}, magic=LEGACY_MAGIC + 1)
    good = legacy_file({"x": tensor("FloatStorage", "1", 24, 0, (24,), (1,))}, {"1": FLOATS})
    for data in (whole, b"", b"PK\x03\x04 a zip", good[:-8], good[:40], pickle.dumps([1])):
        path.write_bytes(data)
        with pytest.raises(MachineError, match="not a legacy torch file"):
            read_legacy_state_dict(path)
    with pytest.raises(MachineError, match="not a legacy torch file"):
        read_legacy_state_dict(tmp_path / "missing.pth")
