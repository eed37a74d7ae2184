"""Pictures and reports of visitations: numbers counted by hand, real battles, files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dm2_ray.analysis.demonstration_plot import draw_set_picture
from dm2_ray.analysis.visitation_maps import (
    CELLS,
    NeighborHistogram,
    action_names,
    agent_visits,
    cell_size,
    log_ratio,
    time_bins,
)
from dm2_ray.analysis.visitation_plots import KnownWorld, draw_team
from dm2_ray.analysis.visitation_report import load_experts, visitation_report
from dm2_ray.config.errors import ConfigError
from dm2_ray.config.packaged_files import configs_dir
from dm2_ray.config.schema import WorldSettings
from dm2_ray.demonstrations import (
    DemonstrationError,
    EpisodeRecord,
    JointTrajectories,
    JointTrajectoryWriter,
    Provenance,
    RecordedWorld,
)
from dm2_ray.demonstrations.episode_player import write_played_episodes
from dm2_ray.learning.episodes import AgentEpisodes
from dm2_ray.runs.joint_rollouts import JointRollouts
from dm2_ray.world import BattleVector, ScriptedTeam, load_map
from dm2_ray.world.smac.options import SmacOptions
from dm2_ray.world.smac.rules_tables import build_tables


def record(path: Path, team: str, map_name: str, episodes: int, seed: int = 0) -> Path:
    battles = BattleVector(map_name, min(episodes, 16), seed=seed)
    policy = Provenance(kind="scripted", source=team, greedy=True, seed=seed)
    with JointTrajectoryWriter(path) as writer:
        write_played_episodes(ScriptedTeam(team, battles, seed=seed), battles, episodes, writer, policy)
    return path


@pytest.fixture(scope="module")
def kiting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("sets") / "kite", "kite", "2m_vs_1z", 16)


def visits_of(path: Path) -> JointRollouts:
    demonstrations = JointTrajectories.open(path)
    return JointRollouts.from_demonstrations(demonstrations, np.arange(demonstrations.num_episodes))


def seen_by(
    agents: int, observations: np.ndarray, actions: np.ndarray, alive: np.ndarray, lengths: list[int], num_actions: int
) -> JointRollouts:
    """Battles in which all agents see and do the same."""
    view = AgentEpisodes(
        observations=observations,
        actions=actions,
        action_mask=np.ones((len(actions), num_actions), bool),
        alive=alive,
        episode_lengths=np.array(lengths),
    )
    return JointRollouts(agents=(view,) * agents, returns=None, won=None)


def tables_of(map_name: str, **switches: bool):
    return build_tables(load_map(map_name), SmacOptions.from_arguments(switches))


# Counts.


@pytest.mark.parametrize("switches", [{}, {"obs_pathing_grid": True, "obs_last_action": True}])
def test_surroundings_are_where_the_units_are(switches):
    """Compared with the units' positions, which agents do not observe."""
    battles = BattleVector("2s3z", 2, seed=3, **switches)
    team = ScriptedTeam("nearest", battles, seed=0)
    battles.reset(first_battle=0)
    team.reset_states(battles)
    agent, observed, expected = 3, [], {"enemies": [], "allies": []}
    for _ in range(25):
        units = battles.units()
        for column in range(2):
            x, y, alive = units.x[column], units.y[column], units.health[column] > 0
            observed.append(battles.observations[column, agent].copy())
            for other in np.flatnonzero(alive):
                offset = np.array([x[other] - x[agent], y[other] - y[agent]], dtype=np.float64)
                if other != agent and alive[agent] and np.hypot(*offset) < 9:
                    expected["allies" if other < 5 else "enemies"].append(offset)
        battles.step(team.act(battles))
        if (battles.terminated | battles.truncated).any():
            break
    alive = np.array([row.any() for row in observed])
    visits = seen_by(5, np.stack(observed), np.ones(len(observed), np.int64), alive, [len(observed)], num_actions=11)
    found = agent_visits(visits, agent, tables_of("2s3z", **switches), 1, len(observed))
    assert min(len(offsets) for offsets in expected.values()) > 50
    for name, offsets in expected.items():
        surroundings: NeighborHistogram = getattr(found, name)
        edges = np.linspace(-9, 9, CELLS + 1)
        counts, _, _ = np.histogram2d(*np.array(offsets).T, bins=(edges, edges))
        # A unit on the border of two cells may be counted in the other one.
        assert np.abs(surroundings.counts - counts).sum() <= 2
        assert surroundings.counts.sum() == len(offsets) and surroundings.living_steps == alive.sum()
        # Mean number in sight of the living agent.
        total = surroundings.density.sum() * cell_size() ** 2
        assert total == pytest.approx(len(offsets) / alive.sum())


def test_actions_and_survival_by_hand():
    """Two battles, of 3 steps and 1; the agent dies after the first step of the longer one."""
    alive = np.array([True, False, False, True])
    visits = seen_by(1, np.zeros((4, 3), np.float32), np.array([2, 0, 0, 1]), alive, [3, 1], num_actions=3)
    assert time_bins(visits) == (1, 3)
    found = agent_visits(visits, 0, None, 1, 3)
    np.testing.assert_array_equal(found.action_shares, [[0, 0.5, 0.5], [np.nan] * 3, [np.nan] * 3])
    np.testing.assert_array_equal(found.alive, [1, 0, 0])
    np.testing.assert_array_equal(found.running, [1, 0.5, 0.5])
    assert found.enemies is None and found.allies is None


def test_long_battles_share_bins():
    actions, alive = np.ones(130, np.int64), np.arange(130) < 60
    visits = seen_by(1, np.zeros((130, 3), np.float32), actions, alive, [130], num_actions=2)
    assert time_bins(visits) == (3, 44)
    found = agent_visits(visits, 0, None, 3, 44)
    np.testing.assert_allclose(found.alive, [1.0] * 20 + [0.0] * 24)
    assert found.action_counts.sum() == 60


def test_log_ratio_is_of_densities_and_shrinks_where_little_was_seen():
    def watched(count: float, steps: int) -> NeighborHistogram:
        return NeighborHistogram(counts=np.full((CELLS, CELLS), count), living_steps=steps)

    # Twice the density in half the time, with five additional sightings on both sides.
    assert log_ratio(watched(1000, 500), watched(1000, 1000)) == pytest.approx(
        np.log2(1.005 / 0.505 * 2 * 0.505 / 1.01), abs=0.02
    )
    assert log_ratio(watched(0, 500), watched(0, 1000)) == pytest.approx(0.0)
    assert np.abs(log_ratio(watched(1, 1000), watched(0, 1000))).max() < 0.3
    np.testing.assert_allclose(
        log_ratio(watched(40, 100), watched(10, 300)), -log_ratio(watched(10, 300), watched(40, 100))
    )


def test_actions_have_names():
    assert action_names(load_map("3m"), 0, 9)[1:8] == ["stop", "north", "south", "east", "west", "attack 0", "attack 1"]
    assert action_names(load_map("2s3z"), 0, 11)[6:] == [
        "attack stalker 0", "attack stalker 1", "attack zealot 2", "attack zealot 3", "attack zealot 4",
    ]  # fmt: skip
    heals = action_names(load_map("MMM2"), 9, 18)
    assert heals[6] == "heal marauder 0" and heals[15] == "heal medivac 9" and len(heals) == 18
    assert action_names(load_map("MMM2"), 0, 18)[17] == "attack medivac 11"


# Pictures.


def test_a_set_is_drawn_with_all_agents_or_one(kiting, tmp_path):
    whole, one = tmp_path / "whole.png", tmp_path / "new" / "one.png"
    assert draw_set_picture(kiting, whole) == (16, None)
    assert draw_set_picture(kiting, one, agent=1) == (16, None)
    sizes = [Image.open(path).size for path in (whole, one)]
    assert sizes[0][0] == sizes[1][0] and sizes[0][1] - sizes[1][1] > 200


@pytest.mark.slow
def test_ten_agents_are_drawn_in_two_blocks(tmp_path):
    path = record(tmp_path / "set", "nearest", "MMM2", 8)
    draw_set_picture(path, tmp_path / "ten.png")
    width, height = Image.open(tmp_path / "ten.png").size
    assert width > height


def test_a_set_of_an_unknown_world_is_drawn_without_positions(kiting, tmp_path):
    """As for an imported set: map, rewards and outcomes are not known."""
    bare = replace(visits_of(kiting), returns=None, won=None)
    draw_team(bare, tmp_path / "bare.svg", title="a set", world=KnownWorld(spec=None, tables=None))
    text = (tmp_path / "bare.svg").read_text()
    assert text.startswith("<?xml") and text.rstrip().endswith("</svg>")


def test_an_imported_set_is_drawn_as_far_as_possible(kiting, tmp_path):
    """Without masks, rewards and outcomes, and with observations of another size."""
    recorded = JointTrajectories.open(kiting)
    world = RecordedWorld(**{name: getattr(recorded.manifest, name) for name in RecordedWorld.model_fields})
    for name, cut, expected in (("plain", 16, None), ("short", 10, "observations of 10 numbers, 16 on 2m_vs_1z")):
        with JointTrajectoryWriter(tmp_path / name) as writer:
            for episode in recorded.episodes():
                writer.append(
                    EpisodeRecord(
                        observations=episode.observations[:, :, :cut].copy(),
                        actions=episode.actions,
                        alive=episode.alive,
                        action_mask=None,
                        rewards=None,
                        battle_won=None,
                    )
                )
            writer.finish(world.model_copy(update={"obs_size": cut}), Provenance(kind="imported", source="files"))
        episodes, lack = draw_set_picture(tmp_path / name, tmp_path / f"{name}.png", agent=1)
        assert episodes == 16 and Image.open(tmp_path / f"{name}.png").format == "PNG"
        assert lack is None if expected is None else expected in str(lack)


def test_a_set_of_a_users_scenario_needs_its_file(tmp_path):
    text = (configs_dir() / "scenarios" / "split_2s_vs_3z.yaml").read_text()
    file = tmp_path / "mine.yaml"
    file.write_text(text.replace("split_2s_vs_3z", "mine"))
    path = record(tmp_path / "set", "nearest", str(file), 4)
    _, lack = draw_set_picture(path, tmp_path / "a.png", agent=0)
    assert lack == "no map mine here: positions are not drawn; name its scenario with --map FILE"
    assert draw_set_picture(path, tmp_path / "b.png", map_name=str(file), agent=0) == (4, None)


def test_an_impossible_picture_is_refused_and_leaves_no_file(kiting, tmp_path):
    for arguments, words in (
        ({"out": tmp_path / "a.gif"}, "expected one of .png, .svg, .pdf"),
        ({"out": tmp_path / "a.png", "agent": 2}, "--agent 2: the set has agents 0 to 1"),
        ({"out": tmp_path / "a.png", "map_name": "3m"}, "was recorded on 2m_vs_1z, not on 3m"),
        ({"out": kiting / "manifest.json" / "a.png"}, "cannot be written"),
    ):
        with pytest.raises(ConfigError, match=words):
            draw_set_picture(kiting, **arguments)
    with pytest.raises(DemonstrationError, match="does not exist"):
        draw_set_picture(tmp_path / "none", tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


# A team against experts.


def test_a_team_is_compared_with_its_experts(kiting, tmp_path):
    world = WorldSettings(map="2m_vs_1z")
    other = visits_of(record(tmp_path / "nearest", "nearest", "2m_vs_1z", 16, seed=1))
    report = visitation_report("nearest", other, load_experts(kiting, world), world, seed=0)
    found = report.record()
    assert json.loads(json.dumps(found)) == found
    assert found["same_engine"] and found["team"]["episodes"] == found["experts"]["episodes"] == 16
    manifest = JointTrajectories.open(kiting).manifest
    assert found["experts"]["win_rate"] == manifest.win_rate
    assert found["experts"]["return_mean"] == pytest.approx(manifest.return_mean)
    assert found["experts"]["episode_length_mean"] == pytest.approx(manifest.episode_length_mean)
    assert set(found["agents"]) == {"agent_0", "agent_1"}
    for agent in found["agents"].values():
        assert (
            0.7 < agent["divergence_accuracy_low"] <= agent["divergence_accuracy"] <= agent["divergence_accuracy_high"]
        )
        assert 0 < agent["divergence_js_low"] <= agent["divergence_js"] <= np.log(2)
    assert found["joint"]["misses_marginals"]
    lines = report.text().splitlines()
    assert any(line.split()[:2] == ["win", "rate"] for line in lines) and "agent 1, marine" in report.text()
    picture = report.write(tmp_path / "out" / "deep")
    assert json.loads((tmp_path / "out" / "deep" / "visitation.json").read_text()) == found
    assert Image.open(picture).format == "PNG"
    report.write(tmp_path / "one", agent=1)
    assert Image.open(tmp_path / "one" / "visitation.png").size[1] < Image.open(picture).size[1]


def test_a_team_cannot_be_told_from_itself(tmp_path):
    world = WorldSettings(map="2m_vs_1z")
    experts = record(tmp_path / "experts", "nearest", "2m_vs_1z", 60, seed=1)
    team = visits_of(record(tmp_path / "team", "nearest", "2m_vs_1z", 60, seed=2))
    report = visitation_report("itself", team, load_experts(experts, world), world, seed=0)
    found = report.record()
    assert not found["joint"]["misses_joint"] and not found["joint"]["misses_marginals"]
    assert all(agent["divergence_js"] < 0.02 for agent in found["agents"].values())
    assert "cannot tell the team from the experts" in report.text()


def test_experts_of_another_world_are_refused_in_one_line(kiting):
    for world, words in (
        (WorldSettings(map="3m"), "map 2m_vs_1z, here map is 3m"),
        (WorldSettings(map="2m_vs_1z", smac={"obs_pathing_grid": True}), "obs_size 16, here obs_size is 24"),
    ):
        with pytest.raises(DemonstrationError, match=words) as refusal:
            load_experts(kiting, world)
        assert "\n" not in str(refusal.value)
    with pytest.raises(ConfigError, match="agents 0 to 1"):
        load_experts(kiting, WorldSettings(map="2m_vs_1z"), agent=2)


def test_too_few_battles_are_refused(kiting, tmp_path):
    world = WorldSettings(map="2m_vs_1z")
    few = visits_of(record(tmp_path / "few", "kite", "2m_vs_1z", 3))
    with pytest.raises(ConfigError, match="needs 4 different battles of each side, got 3"):
        visitation_report("few", few, load_experts(kiting, world), world, seed=0)
