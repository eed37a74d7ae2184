"""Untrusted pickles: only arrays, tensors and plain containers are read, and nothing is executed."""

from __future__ import annotations

import io
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dm2_ray.demonstrations.restricted_pickle import ForbiddenPickle, load_restricted


def read(content: bytes) -> Any:
    return load_restricted(io.BytesIO(content))


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.call


shapes = arrays.array_shapes(min_dims=1, max_dims=4, max_side=5)
numbers = st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.int32, np.uint8, np.bool_])


@settings(max_examples=60, deadline=None)
@given(
    numbers.flatmap(lambda dtype: arrays.arrays(dtype, shapes)), st.integers(0, 5), st.randoms(use_true_random=False)
)
def test_arrays_and_views_of_tensors_are_read(array: Any, protocol: int, random: Any) -> None:
    tensor = torch.from_numpy(array.copy())
    axes = list(range(tensor.ndim))
    random.shuffle(axes)
    view = tensor.permute(axes)[random.randrange(tensor.shape[axes[0]]) :: random.choice((1, 2))]
    content = [{"array": array, "turned": array.T, "tensor": tensor, "view": view, "number": array.ravel()[0]}]
    found = read(pickle.dumps(np.asanyarray(content), protocol=protocol))
    assert isinstance(found, list) and set(found[0]) == set(content[0])
    for name, value in content[0].items():
        expected = np.asarray(value)
        assert found[0][name].dtype == expected.dtype
        np.testing.assert_array_equal(found[0][name], expected)


def test_plain_containers_are_read() -> None:
    content = OrderedDict(a=[1, 2.5, None, True], b=("text", b"bytes"), c={"d": {1, 2}})
    assert read(pickle.dumps(content, protocol=4)) == dict(content)


def test_a_shared_list_is_converted_once() -> None:
    content: list[Any] = [0]
    for _ in range(200):
        content = [content, content]
    assert isinstance(read(pickle.dumps(content)), list)  # otherwise 2 to the power of 200 numbers


def legacy_storage(hidden: Any) -> bytes:
    """Returns what torch writes for a storage, with another object in its place."""
    stream = io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, hidden, []):
        pickle.dump(part, stream, protocol=2)
    return stream.getvalue()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("place", ["alone", "in an array", "in a storage"])
def test_nothing_is_executed(tmp_path: Path, protocol: int, place: str) -> None:
    trace = tmp_path / "executed"
    evil: Any = Calls(os.system, f"touch {trace}")
    if place == "in an array":
        evil = np.array([{"obs": evil}], dtype=object)
    if place == "in a storage":
        evil = Calls(torch.storage._load_from_bytes, legacy_storage(evil))
    content = pickle.dumps(evil, protocol=protocol)
    with pytest.raises(ForbiddenPickle, match=r"it names (posix|nt)\.system") as caught:
        read(content)
    assert "\n" not in str(caught.value)
    assert not trace.exists()


def test_python_s_own_reader_would_execute_it(tmp_path: Path) -> None:
    """So the test above tests something."""
    trace = tmp_path / "executed"
    pickle.loads(pickle.dumps(Calls(os.system, f"touch {trace}")))
    assert trace.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("os", "system"),
        ("numpy", "load"),
        ("numpy", "ndarray.tofile"),
        ("numpy.core.multiarray", "fromfile"),
        ("torch", "load"),
        ("torch.serialization", "load"),
        ("torch.hub", "load"),
        ("collections", "OrderedDict.__init__.__globals__"),
        ("dm2_ray.demonstrations.restricted_pickle", "os"),
        ("learners.gail_learner", "HeapItem"),
    ],
)
def test_every_other_name_is_refused(module: str, name: str) -> None:
    content = b"\x80\x04" + b"".join(b"\x8c" + bytes([len(word)]) + word.encode() for word in (module, name)) + b"\x93."
    with pytest.raises(ForbiddenPickle, match=f"it names {module}.{name};"):
        read(content)


@pytest.mark.parametrize(
    ("evil", "words"),
    [
        (Calls(np.dtype, "V8"), "of type 'V8'"),
        (Calls(np.dtype, "f4,i8"), "of type 'f4,i8'"),
        (Calls(np.dtype, "O8", state=(3, "|", None, ("a",), {}, -1, -1, 63)), "a structured type"),
        (Calls(torch.storage._load_from_bytes, b""), "Ran out of input"),
        (Calls(torch.storage._load_from_bytes, legacy_storage([1])), "an invalid storage"),
        (Calls(torch._utils._rebuild_tensor_v2, [1], 0, (1,), (1,), False, OrderedDict()), "without a storage"),
    ],
)
def test_misuse_of_allowed_names_is_refused(evil: Calls, words: str) -> None:
    with pytest.raises((ForbiddenPickle, EOFError), match=words):
        read(pickle.dumps(evil, protocol=4))


def test_a_tensor_reaches_no_further_than_its_storage() -> None:
    storage = torch.zeros(6).untyped_storage()
    typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
    rebuild, hooks = torch._utils._rebuild_tensor_v2, OrderedDict()  # type: ignore[var-annotated]
    for offset, size, stride in ((0, (7,), (1,)), (1, (6,), (1,)), (0, (2, 3), (4, 1)), (-1, (2,), (1,)),
                                 (0, (10**9, 10**9), (0, 0)), (0, (2,), (-1,)), (0, (3,), (1, 1))):  # fmt: skip
        with pytest.raises(ForbiddenPickle, match="tensor|shape"):
            read(pickle.dumps(Calls(rebuild, typed, offset, size, stride, False, hooks)))
    assert read(pickle.dumps(Calls(rebuild, typed, 1, (5,), (1,), False, hooks))).tolist() == [0.0] * 5


def test_attributes_of_allowed_functions_cannot_be_set() -> None:
    """A pickle's BUILD sets attributes; a replacement changed in this way would stay changed for the next file."""
    content = b"\x80\x02cnumpy\ndtype\nN}(X\x09\x00\x00\x00_functionX\x01\x00\x00\x00xu\x86b."
    with pytest.raises(ForbiddenPickle, match="it sets the attribute _function"):
        read(content)
    assert read(pickle.dumps(np.arange(3))).tolist() == [0, 1, 2]


GOOD = pickle.dumps(np.asanyarray([{"obs": torch.ones(1, 4, 3)[:, :, 1:], "actions": torch.ones(1, 4, 1).long()}]))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
@example(GOOD[:40])
def test_random_bytes_cause_nothing_worse_than_an_error(content: bytes) -> None:
    try:
        read(content)
    except Exception:
        return


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_byte_causes_nothing_worse_than_an_error(place: int, change: int) -> None:
    content = bytearray(GOOD)
    content[place] ^= change
    try:
        found = read(bytes(content))
    except Exception:
        return
    assert not callable(found)
