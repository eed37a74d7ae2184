"""StarCraft II's messages, read out of s2clientprotocol without importing it.

s2clientprotocol ships code that an old protoc generated; protobuf 4 and later refuses to import it ("Descriptors cannot
be created directly"). The descriptions of the messages are in those files all the same, serialized. They are taken from
there, put into a pool of our own, and protobuf builds its fast messages from them: no environment variable, nothing in
`sys.modules`, and no quarrel with another library that brought the same messages along.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dm2_ray.errors import RunFailed, UserError

PACKAGE = "s2clientprotocol"
_INSTALL = "pip install 'dm2-ray[starcraft]'"
_SERIALIZED = re.compile(
    r"""(?:serialized_pb\s*=\s*(?:_b\()?|AddSerializedFile\()\s*(b?'(?:[^'\\]|\\.)*'|b?"(?:[^"\\]|\\.)*")"""
)


class StarCraftError(RunFailed, RuntimeError):
    """StarCraft II cannot be used; the message is one line that says what was found and what to do."""


class StarCraftNotInstalled(UserError, StarCraftError):
    """The game, its protocol or a map is missing on this machine."""


@dataclass(frozen=True)
class Protocol:
    """The two messages that everything else is inside of. Their parts may be given as dictionaries, enumeration values
    by name: `protocol.request(step={"count": 8})`."""

    request: Any
    response: Any
    pool: Any
    """The DescriptorPool behind them."""
    error: type[Exception]
    """What reading bytes that are no message raises."""


@cache
def load_protocol() -> Protocol:
    """The messages, built once per process.

    Raises:
        StarCraftNotInstalled: s2clientprotocol or protobuf is missing, or they do not fit together.
    """
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise StarCraftNotInstalled(f"StarCraft II's protocol is not installed (package {PACKAGE}): {_INSTALL}")
    directory = Path(next(iter(spec.submodule_search_locations)))
    try:
        from google.protobuf import __version__ as protobuf_version
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
        from google.protobuf.message import Error as ProtobufError
    except ImportError as error:
        raise StarCraftNotInstalled(f"protobuf cannot be imported ({error}): {_INSTALL}") from None
    try:
        serialized = [serialized_descriptor(path) for path in sorted(directory.glob("*_pb2.py"))]
        files = {
            file.name: file for file in (descriptor_pb2.FileDescriptorProto.FromString(data) for data in serialized)
        }
        pool = descriptor_pool.DescriptorPool()
        while files:
            # A file may be added once all that it imports has been.
            ready = [name for name, file in files.items() if not files.keys() & set(file.dependency)]
            if not ready:
                raise ValueError(f"{', '.join(sorted(files))} import each other")
            for name in ready:
                pool.AddSerializedFile(files.pop(name).SerializeToString())
        request, response = (
            message_factory.GetMessageClass(pool.FindMessageTypeByName(f"SC2APIProtocol.{name}"))
            for name in ("Request", "Response")
        )
    except (ProtobufError, AttributeError, KeyError, OSError, SyntaxError, TypeError, ValueError) as error:
        raise StarCraftNotInstalled(
            f"StarCraft II's messages in {directory} cannot be built with protobuf {protobuf_version} "
            f"({type(error).__name__}: {error}); tried with s2clientprotocol 5.0.17 and protobuf 5 to 7: {_INSTALL}"
        ) from error
    return Protocol(request=request, response=response, pool=pool, error=ProtobufError)


def load_websocket() -> Any:
    """The client library that carries the messages (websocket-client, which is known to get on with the game).

    Raises:
        StarCraftNotInstalled: it is missing.
    """
    try:
        import websocket
    except ImportError:
        raise StarCraftNotInstalled(
            f"StarCraft II's websocket needs the package websocket-client: {_INSTALL}"
        ) from None
    return websocket


def serialized_descriptor(path: Path) -> bytes:
    """The FileDescriptorProto that a generated module carries, whatever protoc's age.

    Raises:
        ValueError: there is none.
    """
    # Old files: FileDescriptor(serialized_pb=_b('...')), a text whose characters are the bytes; newer ones:
    # AddSerializedFile(b'...').
    match = _SERIALIZED.search(path.read_text(encoding="utf-8"))
    if match is None:
        raise ValueError(f"{path.name} carries no serialized description")
    literal = ast.literal_eval(match[1])
    return literal if isinstance(literal, bytes) else str(literal).encode("latin-1")
