"""Every metric that a run writes is explained in dm2_ray/tracking/README.md."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.tiny_runs import train

import dm2_ray.tracking
from dm2_ray.tracking import read_metrics

PAGE = (Path(dm2_ray.tracking.__file__).parent / "README.md").read_text(encoding="utf-8")
EXPLAINED = set(re.findall(r"^\| `([^`]+)` \|", PAGE, flags=re.MULTILINE))
RUNS = {
    "ippo": [],
    "dm2": ["matching.normalise=true", "diagnostics.divergence_every=1"],
    "dm2_absorbing": [],
    "dm2_self_imitation": [],
    "bc_ippo": ["cloning.iterations=1", "cloning.epochs=2"],
    "mappo": [],
}


def names(record: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, value in record.items():
        general = "*" if above in ("agents.", "timing.memory.processes.") else name
        if isinstance(value, Mapping):
            yield from names(value, f"{above}{general}.")
        else:
            yield above + general


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("variant", RUNS)
def test_every_metric_is_explained(variant: str, tmp_path: Path) -> None:
    needs_set = variant.startswith(("dm2", "bc")) and variant != "dm2_self_imitation"
    demos = ["--demos", "scripted:kite", "demonstrations.source=live"] if needs_set else []
    settings = ["evaluation.every_env_steps=200", "demonstrations.episodes_per_draw=4", *RUNS[variant]]
    assert train(tmp_path / "run", "--iterations", 2, *demos, *settings, variant=variant) == 0
    written = {name for record in read_metrics(tmp_path / "run" / "metrics.jsonl") for name in names(record)}
    assert len(written) > 20
    assert sorted(written - EXPLAINED) == []
