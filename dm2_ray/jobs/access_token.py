"""The access token of a Ray cluster with authentication, as this machine stores it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TOKEN = "RAY_AUTH_TOKEN"
TOKEN_PATH = "RAY_AUTH_TOKEN_PATH"
DEFAULT_FILE = "~/.ray/auth_token"


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token and where it was found. `repr` does not show the value.

    Attributes:
        value: The token.
        source: The environment variable or the file that it comes from.
        file: The file; None if it comes from an environment variable.
    """

    value: str
    source: str
    file: Path | None = None

    def __repr__(self) -> str:
        return f"AccessToken({self.source})"

    @property
    def open_to_others(self) -> bool:
        """Whether other users of this machine can read its file."""
        return self.file is not None and bool(self.file.stat().st_mode & 0o077)

    @property
    def header(self) -> dict[str, str]:
        """The HTTP header for requests with this token."""
        return {"Authorization": f"Bearer {self.value}"}


def find_token() -> AccessToken | None:
    """Searches where Ray does, in its order: $RAY_AUTH_TOKEN, the file in $RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token."""
    if value := os.environ.get(TOKEN, "").strip():
        return AccessToken(value, f"${TOKEN}")
    file = Path(os.environ.get(TOKEN_PATH) or DEFAULT_FILE).expanduser()
    try:
        value = file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return AccessToken(value, str(file), file) if value else None
