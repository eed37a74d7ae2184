"""ActionLog: the actions of one battle, from which a recording is computed only when it is needed.

Shapes: N agents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dm2_ray.world.battles.battle_vector import BattleVector
from dm2_ray.world.viewing.battle_recording import BattleRecorder

if TYPE_CHECKING:
    from dm2_ray.world.viewing.battle_recording import BattleRecording


@dataclass(kw_only=True, slots=True)
class ActionLog:
    """The actions of one battle. They are enough to record it later: a battle is a function of its seed, its number and
    the joint actions.

    Attributes:
        start: Snapshot from which the battle is replayed; None for the battle's own beginning.
        actions: [N] joint action of each step, as it was given.
    """

    battle_number: int
    start: Mapping[str, NDArray[Any]] | None = None
    actions: list[NDArray[np.int64]] = field(default_factory=list)

    def replay(self, battles: BattleVector) -> BattleRecording:
        """Play the battle again and record it.

        Args:
            battles: A vector of one battle with the same map, seed and settings; it is not changed.
        """
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
