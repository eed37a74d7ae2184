"""Reads pickles from untrusted sources: arrays, tensors and plain containers only; nothing in them is executed.

A pickle is a program that may call anything it names. Here names are looked up only in `_ALLOWED` ("Restricting
Globals" in Python's documentation of pickle). What is found there is not the code of numpy or torch but a replacement
in this file that checks its arguments. So the unpickling code of neither library is reached, and torch is not needed:
tensors become arrays.

A tensor's numbers are in a storage, which torch pickles as bytes that contain pickles again (`torch.save`'s first
format):

    magic number | protocol version | sizes of types | the storage, named by a key | [keys] | count, numbers

These are read in the same way. The device of a tensor is ignored.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections.abc import Callable
from typing import IO, Any

import numpy as np
import numpy.typing as npt

_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_TORCH_PROTOCOL = 1001
_STORAGE_TYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_PLAIN_DTYPE = re.compile(r"[|<>=]?[biufO?]\d{0,2}")


class ForbiddenPickle(ValueError):
    """A pickle contains something other than arrays, tensors and plain containers; the message is one line."""


def load_restricted(stream: IO[bytes]) -> Any:
    """Returns the object that the pickle in `stream` describes. Arrays and tensors become numpy arrays, arrays of
    objects become lists.

    Raises:
        ForbiddenPickle: The pickle names something that is not allowed, or contradicts itself. A damaged pickle may
            raise any other Exception, too; nothing in it has been executed then.
    """
    return _without_stand_ins(_Unpickler(stream).load(), {})


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: IO[bytes], storages: dict[str, _Storage] | None = None) -> None:
        super().__init__(stream)
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise ForbiddenPickle(
                f"it names {module}.{name}; only arrays, tensors and plain containers are allowed, nothing is executed"
            ) from None

    def persistent_load(self, pid: Any) -> _Storage:
        """Returns a storage, which torch's format names by ("storage", type, key, device, count, None)."""
        if self._storages is None or type(pid) is not tuple or len(pid) < 5 or pid[0] != "storage":
            raise ForbiddenPickle(f"it refers to something outside the file: {str(pid)[:60]}")
        if len(pid) > 5 and pid[5] is not None:
            raise ForbiddenPickle("it contains a view of a storage in a format that is not supported")
        kind, key, count = pid[1], str(pid[2]), pid[4]
        if not isinstance(kind, str) or type(count) is not int:
            raise ForbiddenPickle("it contains a storage of an unknown type")
        return self._storages.setdefault(key, _Storage(kind, count))


class _Storage:
    """Numbers of tensors; empty until they are read."""

    __slots__ = ("dtype", "numbers")

    def __init__(self, dtype: str, count: int) -> None:
        self.dtype = np.dtype(dtype)
        self.numbers: npt.NDArray[np.generic] = np.empty(0, self.dtype)

    def __setstate__(self, state: Any) -> None:
        raise ForbiddenPickle("it changes the state of a storage")


class _Dtype:
    """Stands in for numpy.dtype while its pickled state is applied."""

    __slots__ = ("dtype",)

    def __init__(self, code: str) -> None:
        if not isinstance(code, str) or not _PLAIN_DTYPE.fullmatch(code):
            raise ForbiddenPickle(
                f"it contains arrays of type {str(code)[:40]!r}; only numbers and objects are allowed"
            )
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        if type(state) is not tuple or len(state) < 8 or any(part is not None for part in state[2:5]):
            raise ForbiddenPickle("it contains arrays of a structured type; only numbers and objects are allowed")
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands in for a numpy.ndarray while its pickled state is applied."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, is_fortran, content = state
        if not isinstance(dtype, _Dtype):
            raise ForbiddenPickle("it contains an array without a type")
        self.value = _filled(_shape(shape), dtype, content, "F" if is_fortran else "C")


class _AllowedGlobal:
    """Something that a pickle may call. It is not a plain function because a pickle could set attributes of one."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __setattr__(self, name: str, value: Any) -> None:
        raise ForbiddenPickle(f"it sets the attribute {name} of something that it may only call")

    def __call__(self, *arguments: Any) -> Any:
        return object.__getattribute__(self, "_function")(*arguments)


def _filled(shape: tuple[int, ...], dtype: _Dtype, content: Any, order: str) -> Any:
    """Returns an array of numbers from bytes, or a flat list of objects."""
    if dtype.dtype.hasobject:
        if not isinstance(content, list) or len(shape) != 1 or len(content) != shape[0]:
            raise ForbiddenPickle("it contains an array of objects that is not one-dimensional")
        return content
    return np.frombuffer(content, dtype.dtype).reshape(shape, order="F" if order == "F" else "C")


def _shape(shape: Any) -> tuple[int, ...]:
    if type(shape) is not tuple or not all(type(size) is int and 0 <= size < 2**48 for size in shape):
        raise ForbiddenPickle(f"it contains an array of the invalid shape {str(shape)[:60]}")
    return shape


def _reconstruct(kind: str, shape: Any, code: Any) -> _Array:
    """Replaces numpy's `_reconstruct`: an empty array; the pickle sets its state next."""
    return _Array()


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> Any:
    """Replaces numpy's `_frombuffer`: an array from bytes, in pickles of protocol 5."""
    if not isinstance(dtype, _Dtype):
        raise ForbiddenPickle("it contains an array without a type")
    return _filled(_shape(shape), dtype, content, order)


def _scalar(dtype: Any, content: Any) -> Any:
    if not isinstance(dtype, _Dtype) or dtype.dtype.hasobject:
        raise ForbiddenPickle("it contains a scalar that is not a number")
    return np.frombuffer(content, dtype.dtype, count=1)[0]


def _new_dtype(code: Any, align: Any = False, copy: Any = False) -> _Dtype:
    return _Dtype(code)


def _ordered_dict(*pairs: Any) -> dict[Any, Any]:
    return dict(*pairs)


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    """Replaces `_codecs.encode`: bytes in pickles of protocol 2, which numpy before 1.17 used for arrays of objects."""
    if not isinstance(text, str) or encoding != "latin1":
        raise ForbiddenPickle("it encodes something other than bytes")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> npt.NDArray[np.generic]:
    """Replaces torch's `_rebuild_tensor_v2`: a view of a storage, copied so that the storage can be freed."""
    if not isinstance(storage, _Storage):
        raise ForbiddenPickle("it contains a tensor without a storage")
    shape, strides, numbers = _shape(size), _shape(stride), storage.numbers
    if len(shape) != len(strides) or type(offset) is not int or offset < 0 or math.prod(shape) > len(numbers):
        raise ForbiddenPickle(f"it contains a tensor of shape {list(shape)} in a storage of {len(numbers)} numbers")
    if 0 in shape:
        return np.empty(shape, storage.dtype)
    last = offset + sum((length - 1) * step for length, step in zip(shape, strides, strict=True))
    if last >= len(numbers):
        raise ForbiddenPickle(f"it contains a tensor that ends at number {last} of a storage of {len(numbers)} numbers")
    item = storage.dtype.itemsize
    view = np.lib.stride_tricks.as_strided(numbers[offset:], shape, [step * item for step in strides], writeable=False)
    return view.copy()


def _storage(content: Any) -> _Storage:
    """Replaces torch's `_load_from_bytes`: the storage that `torch.save` wrote into bytes."""
    if not isinstance(content, bytes):
        raise ForbiddenPickle("it contains a storage that is not bytes")
    stream, storages = io.BytesIO(content), dict[str, _Storage]()
    head = [_Unpickler(stream).load() for _ in range(3)]
    if head[:2] != [_TORCH_MAGIC, _TORCH_PROTOCOL] or not isinstance(head[2], dict):
        raise ForbiddenPickle("it contains a tensor in a format that is not supported")
    if not head[2].get("little_endian", True):
        raise ForbiddenPickle("it contains tensors of a big-endian machine, which are not supported")
    storage = _Unpickler(stream, storages).load()
    keys = _Unpickler(stream).load()
    if not isinstance(storage, _Storage) or keys != list(storages):
        raise ForbiddenPickle("it contains an invalid storage")
    count = int.from_bytes(stream.read(8), "little")
    numbers = stream.read()
    if len(numbers) != count * storage.dtype.itemsize:
        raise ForbiddenPickle(f"it contains a storage of {count} numbers in {len(numbers)} bytes")
    storage.numbers = np.frombuffer(numbers, storage.dtype)
    return storage


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _AllowedGlobal(_ordered_dict),
    ("_codecs", "encode"): _AllowedGlobal(_encoded),
    ("__builtin__", "bytes"): _AllowedGlobal(_no_bytes),
    ("builtins", "bytes"): _AllowedGlobal(_no_bytes),
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): _AllowedGlobal(_new_dtype),
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _AllowedGlobal(_reconstruct) for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _AllowedGlobal(_scalar) for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _AllowedGlobal(_from_buffer) for core in ("core", "_core")},
    ("torch._utils", "_rebuild_tensor_v2"): _AllowedGlobal(_tensor),
    ("torch.storage", "_load_from_bytes"): _AllowedGlobal(_storage),
    **{("torch", name): dtype for name, dtype in _STORAGE_TYPES.items()},
}


def _without_stand_ins(value: Any, done: dict[int, Any]) -> Any:
    """Returns the value with arrays in place of their stand-ins; what is shared is converted once."""
    if not isinstance(value, (_Array, dict, list, tuple)):
        return value
    if id(value) not in done:
        result: Any
        if isinstance(value, _Array):
            result = _without_stand_ins(value.value, done)
        elif isinstance(value, dict):
            result = {key: _without_stand_ins(item, done) for key, item in value.items()}
        else:
            result = type(value)(_without_stand_ins(item, done) for item in value)
        done[id(value)] = result
    return done[id(value)]
