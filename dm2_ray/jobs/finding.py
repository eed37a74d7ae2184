"""What `dm2 doctor` says of one thing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line: how it is, and what to do about it."""

    level: Level
    check: str
    """What was looked at, a word or two."""
    what: str
    """What was found."""
    cure: str = ""
    """What to do; empty where all is well."""

    def line(self) -> str:
        """As it is printed."""
        return f"{self.level:<4}  {self.check}: {self.what}" + (f" — {self.cure}" if self.cure else "")

    def record(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def ok(check: str, what: str) -> Finding:
    """All is well."""
    return Finding(level="ok", check=check, what=what)


def warn(check: str, what: str, cure: str) -> Finding:
    """It works, yet not as it should."""
    return Finding(level="warn", check=check, what=what, cure=cure)


def fail(check: str, what: str, cure: str) -> Finding:
    """It will not work."""
    return Finding(level="fail", check=check, what=what, cure=cure)
