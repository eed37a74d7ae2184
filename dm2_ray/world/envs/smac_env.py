"""One battle under SMAC's own method names, for code written against oxwhirl/smac's StarCraft2Env (PyMARL and kin).

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
from dm2_ray.world.viewing.screen import Screen

_log = logging.getLogger(__name__)


class SMACEnv(SmacView):
    """One battle at a time, played by the embedded engine.

    Methods, returns and attributes are SMAC's, its quirks included, among them: with obs_timestep_number observations
    are float64 and one longer than `get_obs_size()` says; with heuristic_ai the list of actions given to `step` is
    overwritten with those that were played, while last-action features show the given ones. Differences: an unavailable
    action raises ValueError instead of failing an assertion, `step` refuses to go on after the end of a battle, the win
    rate of no battle at all is 0, resetting twice before the first end does not raise max_reward, and the heuristic's
    action of a dead agent is no-op.

    Beyond SMAC: `units` and `set_units`, feature names, and a `save_replay` that needs no StarCraft II to look at.

    Args:
        map_name: name of a packaged map, or a MapSpec.
        seed: equal seeds give equal sequences of battles; None draws one from the operating system.
        engine: free parameters of the engine.
        **smac_arguments: SMAC's constructor arguments.

    Raises:
        UnknownMapError, TypeError, ValueError: an unknown map, an unknown argument, a value out of range.
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
        """What the last step returned."""
        self._is_relaunched = True
        self._episode_count = self._total_steps = 0
        self._action_log: ActionLog | None = None
        self._last_action_log: ActionLog | None = None
        self._screen: Screen | None = None

    def reset(self) -> tuple[list[NDArray[np.floating]], NDArray[np.float32]]:
        """Begin the next battle; returns `get_obs()` and `get_state()`."""
        if self._is_relaunched:
            self._battles.reset()
        elif self._is_under_way:
            self._battles.reset(first_battle=int(self._battles.battle_number[0]) + 1)
        # Otherwise the battle's end has begun the next one already.
        self._is_relaunched, self._has_begun, self._is_under_way = False, True, True
        self._episode_steps = 0
        self.last_action = np.zeros((self.n_agents, self.n_actions))
        self._start_action_log()
        if self.debug:
            _log.debug("battle %d begins", self._battles.battle_number[0])
        return self.get_obs(), self.get_state()

    def _start_action_log(self, start: dict[str, NDArray[Any]] | None = None) -> None:
        if self._action_log is not None and self._action_log.actions:
            self._last_action_log = self._action_log
        self._action_log = ActionLog(battle_number=int(self._battles.battle_number[0]), start=start)

    def step(self, actions: Iterable[SupportsInt]) -> tuple[float, bool, dict[str, Any]]:
        """Play one joint action [N].

        Returns:
            team reward; terminated (also at the time limit); info with battle_won, dead_allies, dead_enemies and, at
            the time limit with continuing_episode, episode_limit.

        Raises:
            RuntimeError: no battle is under way.
            TypeError, ValueError: actions are not whole numbers, of the wrong number, or not available.
        """
        if not self._is_under_way or self._action_log is None:
            raise RuntimeError("no battle is under way: call reset() first")
        battles, given = self._battles, np.array([_whole(action) for action in actions], np.int64)
        battles.step(given[np.newaxis])
        if self.heuristic_ai and hasattr(actions, "__setitem__"):
            for agent, action in enumerate(battles.played_actions[0].tolist()):
                actions[agent] = action
        self._action_log.actions.append(given)
        self._episode_steps += 1
        self._total_steps += 1
        self.last_action = np.eye(self.n_actions)[given]
        terminated = bool(battles.terminated[0] or battles.truncated[0])
        info: dict[str, Any] = {
            "battle_won": bool(battles.battle_won[0]),
            "dead_allies": int(battles.dead_allies[0]),
            "dead_enemies": int(battles.dead_enemies[0]),
        }
        if battles.truncated[0]:
            info["episode_limit"] = True
        if terminated:
            self._is_under_way = False
            self._episode_count += 1
            self.battles_game += 1
            self.battles_won += info["battle_won"]
            self.timeouts += bool(battles.timed_out[0])
        reward = float(battles.rewards[0])
        # Unscaled sparse rewards are SMAC's only integers.
        self.reward = int(reward) if self.reward_sparse and not self.reward_scale else reward
        if self.debug:
            self._log_step(given)
        return self.reward, terminated, info

    def _log_step(self, given: NDArray[np.int64]) -> None:
        _log.debug("actions %s, played %s", given.tolist(), self._battles.played_actions[0].tolist())
        _log.debug("reward %s", self.reward)
        for agent, (obs, avail) in enumerate(zip(self.get_obs(), self.get_avail_actions(), strict=True)):
            _log.debug("agent %d: available %s, observes %s", agent, avail, obs.tolist())
        _log.debug("state %s", self.get_state().tolist())

    def full_restart(self) -> None:
        """As if the game had been launched anew: the next reset() begins the seed's first battle."""
        self._is_relaunched = True
        self._is_under_way = False
        self.force_restarts += 1

    def set_units(
        self, allies: Sides | SideChange | None = None, enemies: SideChange | None = None
    ) -> tuple[list[NDArray[np.floating]], NDArray[np.float32]]:
        """Put the battle that is under way into a given state; returns `get_obs()` and `get_state()` of it.

        A side is a list with one entry per unit in SMAC's order, or a mapping from unit indices; an entry is a record
        or a mapping of some of its fields (x, y, health, shield, energy, cooldown), or None for a unit to leave alone.
        What is not given stays. `set_units(units())` changes nothing that can be seen.

        Positions are rounded down to multiples of 1/4096. Everything in progress is dropped: attacks begun, missiles in
        flight, targets, waiting times of shields; agents stand, enemies go on under their order. A unit set to health 0
        is dead without anybody being paid for it, a dead one may be brought back. Time and last actions stay.

        Raises:
            RuntimeError: no battle is under way.
            TypeError, ValueError: one line about what cannot be: an unknown field, another kind than the map's, a
                number out of its range, a place where the unit cannot stand, or a state in which the battle would be
                over, as when a side is empty. Nothing has changed then.
        """
        if not self._is_under_way:
            raise RuntimeError("no battle is under way: call reset() first")
        if isinstance(allies, Sides):
            if enemies is not None:
                raise TypeError("set_units takes both sides in one argument or each in its own, not both")
            allies, enemies = allies
        self._battles.place_units(0, allies, enemies)
        self._start_action_log(self._battles.snapshot())
        return self.get_obs(), self.get_state()

    # Around the battles.

    def get_stats(self) -> dict[str, float]:
        """Counts over all battles that have ended; SMAC calls time limits draws, and so does this."""
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
        """Show the battle: in a window, which returns None, or with mode "rgb_array" as a picture [H, W, 3].

        The picture's longer side has three quarters of the lesser of `window_size`. A window needs a screen and pygame.

        Raises:
            RuntimeError: no battle has begun; there is no screen.
            ValueError: another mode, or another than that of earlier calls.
        """
        if self._screen is None:
            size = min(self.window_size) * 3 // 4
            self._screen = Screen(self._battles.map_spec, mode, size=size, step_loops=self._step_mul)
        if mode != self._screen.mode:
            raise ValueError(f"render mode is {mode!r}; it was {self._screen.mode!r} before, and has to stay so")
        return self._screen.show(self._units_view())

    def close(self) -> None:
        """Close the window; nothing else is held open."""
        if self._screen is not None:
            self._screen.close()

    def save_replay(self) -> str:
        """Write the present battle, or the last one if this has not taken a step yet, as a page for the browser.

        It goes into `replay_dir`, created if need be (empty: the working directory), and is called after
        `replay_prefix`, the map, the seed and the battle's number; returns its path.

        Raises RuntimeError before the first step.
        """
        from dm2_ray.world.viewing.html_replay import write_html

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
        write_html(action_log.replay(self._battles), path)
        _log.info("replay saved at %s", path)
        return str(path)


def _whole(action: SupportsInt) -> int:
    """An action as an integer; SMAC takes anything that int() takes, here it must be a whole number."""
    value: Any = action.item() if hasattr(action, "item") else action  # arrays and tensors of one element
    number = int(value)
    if number != value:
        raise TypeError(f"action {action!r} is not an integer")
    return number
