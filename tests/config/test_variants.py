"""Every packaged variant changes only what its name says, so that conditions of a comparison differ in one setting."""

from __future__ import annotations

from typing import Any

import pytest

from dm2_ray.config.documents import variant_names
from dm2_ray.config.packaged_files import configs_dir
from dm2_ray.config.schema import CloningSettings
from dm2_ray.runs.experiment_loading import load_experiment

JOINT = ("demonstrations.path=/set",)
PER_AGENT = ("demonstrations.paths_per_agent=[/a, /b, /c, /d, /e]",)
CHANGES: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    # variant: the variant it is compared with, its experts, the settings that differ
    "dm2_self_imitation": ("dm2", (), {"demonstrations.source": "self_imitation", "demonstrations.path": None}),
    "dm2_live": ("dm2", JOINT, {"demonstrations.source": "live"}),
    "dm2_state_action": ("dm2", JOINT, {"discriminator.input": "state_action"}),
    "dm2_next_state": ("dm2", JOINT, {"discriminator.input": "state_next_state"}),
    "dm2_non_concurrent": ("dm2", JOINT, {"demonstrations.sampling": "non_concurrent"}),
    "dm2_independent": (
        "dm2",
        PER_AGENT,
        {"demonstrations.path": None, "demonstrations.paths_per_agent": ["/a", "/b", "/c", "/d", "/e"]},
    ),
    "dm2_independent_non_concurrent": (
        "dm2_independent",
        PER_AGENT,
        {"demonstrations.sampling": "non_concurrent"},
    ),
    "matching_only": ("dm2", JOINT, {"matching.reward": "matching"}),
    "dm2_masked": ("dm2", JOINT, {"matching.padding": "masked"}),
    "dm2_absorbing": ("dm2", JOINT, {"matching.padding": "absorbing"}),
    "dm2_paper": ("dm2", JOINT, {"matching.padding": "paper"}),
    "ippo": ("dm2", JOINT, {"matching.coefficient": 0.0}),
    "bc_ippo": ("ippo", JOINT, {"cloning.iterations": 50}),
    "bc_ippo_warm": (
        "ippo",
        JOINT,
        {"cloning.iterations": 30, "cloning.minibatches": 4, "cloning.critic_iterations": 5},
    ),
    "bc": ("bc_ippo", JOINT, {"stop.iterations": 50}),
    "open_loop": ("ippo", JOINT, {"policy.open_loop": True}),
    "mappo": ("ippo", JOINT, {"algorithm": "mappo"}),
}


def settings(variant: str, experts: tuple[str, ...]) -> dict[str, Any]:
    """All settings, by dotted key, on a map with settings of its own."""
    experiment = load_experiment(variant=variant, map_name="5m_vs_6m", overrides=experts)
    found = {}
    for section, value in experiment.model_dump(mode="json").items():
        found |= {f"{section}.{key}": entry for key, entry in value.items()} if isinstance(value, dict) else {}
        found |= {} if isinstance(value, dict) else {section: value}
    return found


def test_actors_are_frozen_only_after_cloning() -> None:
    cloning = CloningSettings(iterations=2, critic_iterations=3)
    assert [iteration for iteration in range(9) if cloning.is_actor_frozen(iteration)] == [2, 3, 4]
    assert not any(CloningSettings(critic_iterations=3).is_actor_frozen(iteration) for iteration in range(9))
    assert not any(CloningSettings(iterations=2).is_actor_frozen(iteration) for iteration in range(9))


def test_every_variant_is_tested() -> None:
    assert {"dm2", *CHANGES} == set(variant_names())


@pytest.mark.parametrize("variant", CHANGES)
def test_a_variant_changes_only_the_expected_settings(variant: str) -> None:
    base, experts, expected = CHANGES[variant]
    ours, theirs = settings(variant, experts), settings(base, PER_AGENT if base == "dm2_independent" else JOINT)
    changed = {key for key in ours if ours[key] != theirs[key]} - {"variant"}
    # A variant may state a value that is the default, too, and then changes nothing.
    assert changed == {key for key, value in expected.items() if theirs[key] != value}
    assert {key: ours[key] for key in expected} == expected


@pytest.mark.parametrize("variant", variant_names())
def test_a_variants_file_begins_with_an_explanation(variant: str) -> None:
    lines = (configs_dir() / "variants" / f"{variant}.yaml").read_text().splitlines()
    assert lines[0].startswith("# ") and f"variant: {variant}" in lines
