"""A recorded battle as one self-contained HTML file: it needs no network, no other file, no server.

The page is replay.html with the script replay.js; both are written into the file together with the battle.
"""

from __future__ import annotations

import html
import json
from importlib import resources
from pathlib import Path

from dm2_ray.files import write_atomically
from dm2_ray.world.viewing.animation import LOOPS_PER_SECOND, OUTCOME_TEXTS, close_up_view
from dm2_ray.world.viewing.battle_recording import BattleRecording
from dm2_ray.world.viewing.glyphs import glyph

_TITLE, _SCRIPT, _BATTLE = "{{title}}", "{{script}}", "{{battle}}"


def write_html(recording: BattleRecording, path: str | Path) -> None:
    """Write a battle as a page that plays it, with every unit's numbers and every agent's choices.

    The file is written completely or not at all.

    Raises:
        OSError: The file cannot be written.
    """
    write_atomically(Path(path), html_page(recording).encode())


def html_page(recording: BattleRecording) -> str:
    """The page's text."""
    scene = recording.scene
    battle = {
        "recording": json.loads(recording.to_json()),
        "labels": [scene.label(unit) for unit in range(scene.num_units)],
        "glyphs": {kind: glyph(kind) for kind in sorted(set(scene.kinds))},
        # All agents but healers have the same actions.
        "action_names": {
            "fighter": scene.action_names(next((i for i in range(scene.num_agents) if i not in scene.healers), 0)),
            "healer": scene.action_names(scene.healers[0]) if scene.healers else [],
        },
        "close_up": close_up_view(recording),
        "outcome_text": OUTCOME_TEXTS[recording.outcome],
        "loops_per_second": LOOPS_PER_SECOND,
    }
    package = resources.files("dm2_ray.world.viewing")
    template, script = (package.joinpath(name).read_text(encoding="utf-8") for name in ("replay.html", "replay.js"))
    title = html.escape(f"{scene.map_name}, battle {recording.provenance.battle} of seed {recording.provenance.seed}")
    before, after = template.replace(_SCRIPT, script).split(_BATTLE)
    return before.replace(_TITLE, title) + _as_script_text(battle) + after


def _as_script_text(content: object) -> str:
    """JSON that can neither end the surrounding script element nor start a comment, whatever its strings contain."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
