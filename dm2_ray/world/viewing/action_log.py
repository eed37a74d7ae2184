"""ActionLog: what it takes to fight one battle again, and to write it down only when somebody wants to look at it.

Shapes: N agents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dm2_ray.world.battles.battle_vector import BattleVector

if TYPE_CHECKING:
    from dm2_ray.world.viewing.battle_recording import BattleRecording


@dataclass(kw_only=True, slots=True)
class ActionLog:
    """A battle is a function of its seed, its number and the joint actions: recording costs no more than these."""

    battle_number: int
    start: Mapping[str, NDArray[Any]] | None = None
    """Snapshot that the story begins with; None for the battle's own beginning."""
    actions: list[NDArray[np.int64]] = field(default_factory=list)
    """[N] per step, as they were given."""

    def replay(self, battles: BattleVector) -> BattleRecording:
        """The battle once more, written down.

        Args:
            battles: a vector of one battle with the same map, seed and settings; it is left alone.
        """
        from dm2_ray.world.viewing.battle_recording import BattleRecorder

        again = BattleVector(
            battles.map_spec,
            1,
            battles.seed,
            first_battle=self.battle_number,
            engine=battles.engine_settings,
            **asdict(battles.options),
        )
        again.reset()
        if self.start is not None:
            again.restore(self.start)
        recorder = BattleRecorder(again)
        recorder.begin()
        for joint_action in self.actions:
            again.step(joint_action[np.newaxis])
            recorder.step(again.played_actions[0])
        return recorder.recording
