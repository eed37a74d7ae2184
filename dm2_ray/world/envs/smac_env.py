"""One battle with SMAC's own method names, for code written for oxwhirl/smac's StarCraft2Env (PyMARL, for example).

Shapes: N agents, M enemies, A actions, O observation size, S state size.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, SupportsInt

import numpy as np
from numpy.typing import NDArray

from dm2_ray.world.battles.battle_vector import BattleVector
from dm2_ray.world.battles.unit_records import SideChange, Sides
from dm2_ray.world.engine_settings import EngineSettings
from dm2_ray.world.envs.smac_view import SmacView
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.viewing.action_log import ActionLog
from dm2_ray.world.viewing.html_replay import write_html
from dm2_ray.world.viewing.screen import Screen

_log = logging.getLogger(__name__)


class SMACEnv(SmacView):
    """One battle at a time, played by the embedded engine.

    Methods, returns and attributes are SMAC's, its quirks included, among them: with obs_timestep_number observations
    are float64 and one longer than `get_obs_size()` says; with heuristic_ai the list of actions given to `step` is
    overwritten with those that were played, while last-action features show the given ones. Differences: an unavailable
    action raises ValueError instead of failing an assertion, `step` after the end of a battle raises RuntimeError, the
    win rate before the first battle has ended is 0, resetting twice before the first end does not raise max_reward, and
    the heuristic's action of a dead agent is no-op.

    In addition to SMAC: `units` and `set_units`, feature names, and a `save_replay` whose file opens in a browser.

    Args:
        map_name: Name of a packaged map, or a MapSpec.
        seed: Equal seeds give equal sequences of battles; None draws one from the operating system.
        engine: Free parameters of the engine.
        **smac_arguments: SMAC's constructor arguments.

    Raises:
        UnknownMapError, TypeError, ValueError: An unknown map, an unknown argument, a value out of range.
    """

    def __init__(
        self,
        map_name: str | MapSpec = "8m",
        seed: int | None = 0,
        *,
        engine: EngineSettings | None = None,
        **smac_arguments: Any,
    ) -> None:
        self._seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
        super().__init__(BattleVector(map_name, 1, self._seed, engine=engine, **smac_arguments))
        self.battles_game = self.battles_won = self.timeouts = self.force_restarts = 0
        self.reward: float = 0.0
        """Reward of the last step."""
        self._episode_count = self._total_steps = 0
        self._one_hot = np.eye(self.n_actions)
        self._action_log: ActionLog | None = None
        self._last_action_log: ActionLog | None = None
        self._screen: Screen | None = None

    def reset(self) -> tuple[list[NDArray[np.floating]], NDArray[np.float32]]:
        """Start the next battle; returns `get_obs()` and `get_state()`."""
        self._battle.begin()
        self._episode_steps = 0
        self.last_action = np.zeros((self.n_agents, self.n_actions))
        self._start_action_log()
        if self.debug:
            _log.debug("battle %d begins", self._battle.number)
        return self.get_obs(), self.get_state()

    def _start_action_log(self, start: dict[str, NDArray[Any]] | None = None) -> None:
        if self._action_log is not None and self._action_log.actions:
            self._last_action_log = self._action_log
        self._action_log = ActionLog(battle_number=self._battle.number, start=start)

    def step(self, actions: Iterable[SupportsInt]) -> tuple[float, bool, dict[str, Any]]:
        """Play one joint action [N].

        Returns:
            Team reward; terminated (also at the time limit); info with battle_won, dead_allies, dead_enemies and, at
            the time limit with continuing_episode, episode_limit.

        Raises:
            RuntimeError: No battle is running.
            TypeError, ValueError: Actions are not whole numbers, not one per agent, or not available.
        """
        self._battle.check_running()
        assert self._action_log is not None
        battles, given = self._battle.battles, np.array([_as_int(action) for action in actions], np.int64)
        reward, terminated, truncated = self._battle.step(given)
        if self.heuristic_ai and hasattr(actions, "__setitem__"):
            for agent, action in enumerate(battles.played_actions[0].tolist()):
                actions[agent] = action
        self._action_log.actions.append(given)
        self._episode_steps += 1
        self._total_steps += 1
        self.last_action = self._one_hot[given]
        info = self._battle.outcome
        if truncated:
            info["episode_limit"] = True
        if terminated or truncated:
            self._episode_count += 1
            self.battles_game += 1
            self.battles_won += info["battle_won"]
            self.timeouts += bool(battles.timed_out[0])
        # Unscaled sparse rewards are SMAC's only integers.
        self.reward = int(reward) if self.reward_sparse and not self.reward_scale else reward
        if self.debug:
            self._log_step(given)
        return self.reward, terminated or truncated, info

    def _log_step(self, given: NDArray[np.int64]) -> None:
        _log.debug("actions %s, played %s", given.tolist(), self._battle.battles.played_actions[0].tolist())
        _log.debug("reward %s", self.reward)
        for agent, (obs, avail) in enumerate(zip(self.get_obs(), self.get_avail_actions(), strict=True)):
            _log.debug("agent %d: available %s, observes %s", agent, avail, obs.tolist())
        _log.debug("state %s", self.get_state().tolist())

    def full_restart(self) -> None:
        """Act as if the game had been launched again: the next reset() starts the seed's first battle."""
        self._battle.restart()
        self.force_restarts += 1

    def set_units(
        self, allies: Sides | SideChange | None = None, enemies: SideChange | None = None
    ) -> tuple[list[NDArray[np.floating]], NDArray[np.float32]]:
        """Put the running battle into a given state; returns `get_obs()` and `get_state()` of it.

        A side is a list with one entry per unit in SMAC's order, or a mapping from unit indices; an entry is a record,
        a mapping of some of its fields (x, y, health, shield, energy, cooldown), or None for a unit that does not
        change. Fields that are not given keep their values. `set_units(units())` leaves observations and state as they
        are.

        Positions are rounded down to multiples of 1/4096. Attacks in progress, missiles in flight, targets and waiting
        times of shields are cleared; agents stop, enemies continue to follow their order. A unit set to health 0 is
        dead, which earns no reward, and a dead unit may be revived. Time and last actions stay.

        Raises:
            RuntimeError: No battle is running.
            TypeError, ValueError: One line about the problem: an unknown field, another kind than the map's, a number
                out of its range, a position where the unit cannot stand, or a state in which the battle would be over,
                for example because a side is empty. Nothing has changed then.
        """
        self._battle.check_running()
        if isinstance(allies, Sides):
            if enemies is not None:
                raise TypeError("set_units takes both sides either in one argument or in two arguments, not both ways")
            allies, enemies = allies
        self._battle.battles.place_units(0, allies, enemies)
        self._start_action_log(self._battle.battles.snapshot())
        return self.get_obs(), self.get_state()

    # Statistics, pictures and replays.

    def get_stats(self) -> dict[str, float]:
        """Counts over all battles that have ended; as in SMAC, battles cut by the time limit count as draws."""
        return {
            "battles_won": self.battles_won,
            "battles_game": self.battles_game,
            "battles_draw": self.timeouts,
            "win_rate": self.battles_won / self.battles_game if self.battles_game else 0.0,
            "timeouts": self.timeouts,
            "restarts": self.force_restarts,
        }

    def seed(self) -> int:
        """The seed of this object's battles."""
        return self._seed

    def render(self, mode: str = "human") -> NDArray[np.uint8] | None:
        """Show the battle in a window and return None, or with mode "rgb_array" return a picture [H, W, 3].

        The picture's longer side is three quarters of the smaller `window_size`. A window needs a screen and pygame.

        Raises:
            RuntimeError: No battle has begun, or there is no screen.
            ValueError: An unknown mode, or another mode than in earlier calls.
        """
        if self._screen is None:
            size = min(self.window_size) * 3 // 4
            self._screen = Screen(self._battle.battles.map_spec, mode, size=size, step_loops=self._step_mul)
        if mode != self._screen.mode:
            raise ValueError(f"render mode is {mode!r}; earlier calls used {self._screen.mode!r}, which cannot change")
        return self._screen.show(self._battle.units())

    def close(self) -> None:
        """Close the window, the only thing that is open."""
        if self._screen is not None:
            self._screen.close()

    def save_replay(self) -> str:
        """Write the current battle, or the previous one if the current one has no step yet, as an HTML page.

        The file is created in `replay_dir` (empty: the working directory); its name contains `replay_prefix`, the map,
        the seed and the battle's number.

        Returns:
            Path of the file.

        Raises:
            RuntimeError: No step has been taken yet.
        """
        action_log = self._action_log
        if action_log is None or not action_log.actions:
            action_log = self._last_action_log
        if action_log is None:
            raise RuntimeError("there is nothing to replay: no step has been taken")
        prefix = f"{self.replay_prefix}_" if self.replay_prefix else ""
        path = (
            Path(self.replay_dir or ".")
            / f"{prefix}{self.map_name}_seed{self._seed}_battle{action_log.battle_number}.html"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_html(action_log.replay(self._battle.battles), path)
        _log.info("replay saved at %s", path)
        return str(path)


def _as_int(action: SupportsInt) -> int:
    """An action as an integer. SMAC accepts anything that int() accepts; here it must be a whole number."""
    if type(action) is int:  # the usual case
        return action
    value: Any = action.item() if hasattr(action, "item") else action  # arrays and tensors of one element
    number = int(value)
    if number != value:
        raise TypeError(f"action {action!r} is not an integer")
    return number
