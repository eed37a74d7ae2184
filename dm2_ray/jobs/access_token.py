"""The token that a Ray cluster with authentication asks for, where this machine keeps it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TOKEN = "RAY_AUTH_TOKEN"
TOKEN_PATH = "RAY_AUTH_TOKEN_PATH"
DEFAULT_FILE = "~/.ray/auth_token"


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token and its home. The value is not shown where the object is printed."""

    value: str
    source: str
    """The environment variable or the file."""
    file: Path | None = None

    def __repr__(self) -> str:
        return f"AccessToken({self.source})"

    @property
    def open_to_others(self) -> bool:
        """Whether other users of this machine may read its file."""
        return self.file is not None and bool(self.file.stat().st_mode & 0o077)

    @property
    def header(self) -> dict[str, str]:
        """The HTTP header that carries it."""
        return {"Authorization": f"Bearer {self.value}"}


def find_token() -> AccessToken | None:
    """The token, looked for where Ray looks and in its order: variable, file that a variable names, home directory."""
    if value := os.environ.get(TOKEN, "").strip():
        return AccessToken(value, f"${TOKEN}")
    named = os.environ.get(TOKEN_PATH)
    file = Path(named or DEFAULT_FILE).expanduser()
    try:
        value = file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return AccessToken(value, str(file), file) if value else None
