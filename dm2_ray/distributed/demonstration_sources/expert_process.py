"""ExpertProcess: what a process does for demonstrations; it loads neither torch nor RLlib for it."""

from __future__ import annotations

from typing import Any

from dm2_ray.distributed.process_setup import process_name


class ExpertProcess:
    """An object that answers, and the process's name below every answer."""

    def __init__(self, kind: type, **arguments: Any) -> None:
        """
        Args:
            kind: Class of the object.
            arguments: Of its constructor.
        """
        self._object = kind(**arguments)

    def answer(self, method: str, *arguments: Any) -> tuple[Any, ...]:
        """What the object's method returns, a tuple, and which process it was: call with `num_returns`."""
        return (*getattr(self._object, method)(*arguments), process_name())
