"""Live experts: teams that play fresh battles while the agents learn.

    draw(iteration): every team plays battles in the run's world ──► one slice per agent

The battles are a pure function of (teams, settings, seed, iteration): a draw that is lost with its process is played
again by another one with the same result. (StarCraft II has its own randomness: in the real game a repeated draw gives
other battles of the same distribution.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dm2_ray.checkpoints import CheckpointError, actor_weights
from dm2_ray.config.errors import ConfigError
from dm2_ray.config.schema import DemonstrationSettings, PolicySettings, WorldSettings
from dm2_ray.config.team_names import SCRIPTED_PREFIX
from dm2_ray.demonstrations.episode_player import play_joint_episodes
from dm2_ray.demonstrations.joint_episode import JointEpisode, agent_demonstration
from dm2_ray.demonstrations.manifest import DemonstrationError
from dm2_ray.demonstrations.source_checks import team_names
from dm2_ray.distributed.demonstration_sources.server_pool import ActorOptions, EpisodeServerPool, Request
from dm2_ray.distributed.demonstration_sources.sources import DemonstrationSource
from dm2_ray.distributed.random_streams import StreamRole, derive_seed
from dm2_ray.distributed.rollout.stacked_policies import StackedPolicies, load_policies
from dm2_ray.world import ScriptedTeam, world_map
from dm2_ray.world.backends import build_battles
from dm2_ray.world.battles.backend import BattleBackend
from dm2_ray.world.battles.play_battles import TeamPolicy
from dm2_ray.world.configured import ConfiguredWorld
from dm2_ray.world.scripted import check_scripted_team
from dm2_ray.zoo import PackedTeamError, open_team

BATTLES_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveTeam:
    """A scripted team, or trained policies with their weights, so that a process on another node needs no file.

    Attributes:
        script: One of SCRIPTED_TEAMS; None for trained policies.
        policy: Settings of the trained policies' networks.
        weights: Parameters of the actor of every agent.
    """

    script: str | None = None
    policy: PolicySettings | None = None
    weights: Sequence[Mapping[str, np.ndarray]] = ()

    @classmethod
    def from_name(cls, name: str, world: ConfiguredWorld) -> LiveTeam:
        """Returns the team that `scripted:NAME`, `zoo:MAP/NAME`, or the path of a checkpoint or run directory names.

        Raises:
            DemonstrationError: There is no such team, or it does not match this world.
        """
        if name.startswith(SCRIPTED_PREFIX):
            script = name.removeprefix(SCRIPTED_PREFIX)
            try:
                check_scripted_team(script)
            except ConfigError as error:
                raise DemonstrationError(f"live expert {name}: {error}") from None
            return cls(script=script)
        try:
            trained = open_team(name)
            settings = trained.experiment()
            spec = world_map(settings.world.map, settings.world.scenario)
            found = {
                "map_name": spec.name,
                "scenario_hash": spec.scenario_hash,
                "num_agents": trained.num_agents,
                "obs_size": trained.obs_size,
                "num_actions": trained.num_actions,
            }
            for key, value in found.items():
                if value != (expected := getattr(world, key)):
                    raise DemonstrationError(
                        f"live expert {trained.name} was trained with {key} {value}, but this run has {expected}"
                    )
            load_policies(trained, greedy=True)  # so that damaged files are noticed here
            return cls(policy=settings.policy, weights=actor_weights(trained))
        except (CheckpointError, PackedTeamError) as error:
            raise DemonstrationError(f"live expert: {error}") from None


class _LiveServer:
    """Plays the experts' battles; a draw does not change its state."""

    def __init__(
        self, teams: Sequence[LiveTeam], settings: DemonstrationSettings, world: WorldSettings, seed: int
    ) -> None:
        """
        Args:
            teams: One joint team, or one per agent.
            settings: How many battles per draw, which agent gets which, whether the teams play greedily.
            world: The run's world.
            seed: The experiment's seed.
        """
        self._teams = teams
        self._settings = settings
        self._seed = seed
        self._world = world
        self._num_agents = ConfiguredWorld.from_settings(world).num_agents
        self._battles: BattleBackend | None = None

    def draw(self, iteration: int) -> tuple[Any, ...]:
        """Returns the iteration's demonstrations, entry i for agent i, and a report of how well the experts played.

        Raises:
            StarCraftError: StarCraft II is configured and cannot be used here.
        """
        agents, per_agent = self._num_agents, self._settings.episodes_per_draw
        is_joint, is_disjoint = len(self._teams) == 1, self._settings.sampling == "non_concurrent"
        battles = per_agent * (agents if is_joint and is_disjoint else 1)
        played = [self._play(team, battles, (iteration, index)) for index, team in enumerate(self._teams)]
        slices = []
        for agent in range(agents):
            share = np.arange(per_agent) + (agent * per_agent if is_disjoint else 0)
            episodes = [played[0][k] for k in share] if is_joint else played[agent]
            ids = iteration * per_agent * (agents if is_disjoint else 1) + share
            slices.append(agent_demonstration(episodes, agent, ids))
        everything = [episode for episodes in played for episode in episodes]
        report = {
            "episodes": len(everything),
            "win_rate": float(np.mean([episode.battle_won for episode in everything])),
            "return_mean": float(np.mean([episode.team_return for episode in everything])),
        }
        return (*slices, report)

    def _play(self, team: LiveTeam, episodes: int, counters: tuple[int, int]) -> list[JointEpisode]:
        if self._battles is None:
            self._battles = build_battles(self._world, min(episodes, BATTLES_AT_ONCE), self._seed)
        battles = self._battles
        action_seed = derive_seed(self._seed, StreamRole.EXPERT_ACTIONS, *counters)
        players: TeamPolicy
        if team.policy is None:
            assert team.script is not None
            players = ScriptedTeam(team.script, battles, seed=action_seed)
        else:
            policies = StackedPolicies(
                battles.num_agents,
                battles.obs_size,
                battles.num_actions,
                team.policy,
                greedy=self._settings.live_greedy,
                seed=action_seed,
            )
            policies.load(team.weights)
            players = policies
        battle_seed = derive_seed(self._seed, StreamRole.EXPERT_BATTLES, *counters)
        return list(play_joint_episodes(players, battles, episodes, seed=battle_seed))


class LiveDemonstrations(DemonstrationSource):
    """Processes that play the experts' battles; they work as many iterations ahead as there are processes."""

    def __init__(
        self,
        teams: Sequence[LiveTeam],
        settings: DemonstrationSettings,
        world: WorldSettings,
        *,
        seed: int,
        num_agents: int,
        options: ActorOptions,
    ) -> None:
        """
        Args:
            teams: The result of `parse_live_teams`.
            settings: How many battles per draw, how many processes (0: the driver plays).
            world: The run's world.
            seed: The experiment's seed.
            num_agents: Slices per draw.
            options: Where processes are placed, how long to wait for a lost one, and where losses are logged.
        """
        arguments = {"teams": teams, "settings": settings, "world": world, "seed": seed}
        super().__init__(EpisodeServerPool(_LiveServer, arguments, settings, options=options), num_agents)

    def prefetch(self, iteration: int) -> None:
        last = iteration + len(self._pool)
        self._pool.prefetch({later: self._request(later) for later in range(iteration, last + 1)})

    def draw(self, iteration: int, trajectories: Sequence[Sequence[Any]] = ()) -> list[Any]:
        answers = self._pool.answers({iteration: self._request(iteration)})
        *slices, self._report = answers[iteration]
        return slices

    def _request(self, iteration: int) -> Request:
        return Request(turn=iteration, method="draw", arguments=[iteration], parts=self._num_agents + 1)


def parse_live_teams(settings: DemonstrationSettings, world: ConfiguredWorld) -> list[LiveTeam]:
    """Returns the configured teams: one joint team, or one per agent.

    Raises:
        DemonstrationError: A team is missing, damaged or of another world, or there are not as many teams as agents.
    """
    return [LiveTeam.from_name(name, world) for name in team_names(settings, world.num_agents)]
