"""URIs end up in configurations, logs and the descriptions of jobs, so they must not contain credentials."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

from dm2_ray.errors import UserError

_SECRET_OPTION = re.compile("key|token|secret|password", re.IGNORECASE)


def check_no_credentials(uri: str, source: str, error: type[UserError]) -> None:
    """Raises `error` if a URI contains a user, a password or a key; the message does not repeat them.

    Args:
        uri: A URI or a web address.
        source: Where it was given.
        error: The exception to raise.
    """
    parts = urlsplit(uri)
    if "@" in parts.netloc or any(_SECRET_OPTION.search(name) for name in parse_qs(parts.query)):
        raise error(
            f"{source} contains a user, password or key, which would be written into configurations and logs: leave it "
            "out; processes find credentials in their own environment (AWS_PROFILE, AWS_ACCESS_KEY_ID, "
            "GOOGLE_APPLICATION_CREDENTIALS, a role)"
        )
