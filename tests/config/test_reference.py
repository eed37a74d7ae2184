"""configs/README.md agrees with the comments in configs/defaults.yaml and contains every key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dm2_ray.config.packaged_files import configs_dir
from dm2_ray.config.reference import entries, reference
from dm2_ray.config.schema import Experiment


def keys(values: Mapping[str, Any], above: str = "") -> set[str]:
    """Dotted names of all settings, without the sections."""
    found = set()
    for name, value in values.items():
        found |= keys(value, f"{above}{name}.") if isinstance(value, Mapping) and value else {above + name}
    return found


def test_the_page_is_up_to_date() -> None:
    page = (configs_dir() / "README.md").read_text(encoding="utf-8")
    assert page == reference(), "run: python -m dm2_ray.config.reference > configs/README.md"


def test_every_setting_is_explained() -> None:
    explained = {entry.key: entry for entry in entries((configs_dir() / "defaults.yaml").read_text(encoding="utf-8"))}
    settings = {key for key, entry in explained.items() if entry.default is not None}
    assert settings == keys(Experiment().model_dump())
    assert not [key for key in settings if not explained[key].meaning]
