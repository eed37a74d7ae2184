"""The location of the packaged YAML files. This module imports no other at its top, so that any may import it."""

from __future__ import annotations

from pathlib import Path


def configs_dir() -> Path:
    """Directory of the packaged layers and scenarios: inside an installed package, beside it in a checkout.

    Raises:
        ConfigError: It is not there.
    """
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "configs", package.parent / "configs"):
        if (candidate / "defaults.yaml").is_file():
            return candidate
    # Loads pydantic, 0.1 s: maps are found without it.
    from dm2_ray.config.errors import ConfigError

    raise ConfigError(f"{package / 'configs'} is missing: dm2-ray is not installed completely")
