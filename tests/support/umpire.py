"""Watches battles and objects to anything that rules or physics forbid; recomputed independently in numpy.

Shapes: B battles, N agents, M enemies, U = N + M units (agents first), A actions; E battles ended in the last step;
R = B + E rows: the present battles, then the last moments of those that ended. A moment is [6, R, U], its rows the
quantities below; `agents` and `enemies` are slices of U.
"""

from __future__ import annotations

import numpy as np

from dm2_ray.world.battles.battle_vector import BattleVector
from dm2_ray.world.maps.terrain import build_terrain
from dm2_ray.world.unit_kinds import unit_kind

QUANTITIES = ("x", "y", "health", "shield", "energy", "cooldown")
X, Y, HEALTH, SHIELD, ENERGY, COOLDOWN = range(6)
PLACE, GROWING = slice(X, Y + 1), slice(HEALTH, ENERGY + 1)

LOOPS = 8
ROUNDING = 1e-9
LONG_AGO = 10**6
SELDOM = 16
"""Steps between checks of pairs of units and of other costly things."""

DEEPEST_OVERLAP = 0.85
"""Two units of one layer are never nearer than the remaining share of the sum of their separation radii."""
WORST_CROWD = 0.5
"""Limit at every moment of the sum of such overlaps over all pairs of a battle, divided by its living units."""
MEAN_CROWD = 0.1
"""The same, but the mean over all moments that were checked."""
LONGEST_PUSH = 1.5
"""Cells in one env step by which neighbors carry a unit beyond what it walks."""


def look(units, rows=slice(None)):
    """A copy of some battles' units."""
    moment = np.empty((len(QUANTITIES), *units.x[rows].shape))
    for row, name in zip(moment, QUANTITIES, strict=True):
        row[...] = getattr(units, name)[rows]
    return moment


def points(moment):
    """Health and shield as SMAC sees them, in 32 bits; 0 for the dead."""
    health, shield = moment[HEALTH : SHIELD + 1].astype(np.float32).astype(np.float64)
    return np.where(health > 0.0, health + shield, 0.0)


class Umpire:
    """Steps battles that nothing else steps, and raises AssertionError for anything that is wrong.

    The message names the battle and the step: with `first_battle` and the random team, one column plays it again.

    Args:
        battles: After `reset`, with SMAC's default options.
    """

    def __init__(self, battles: BattleVector) -> None:
        self.battles = battles
        self.steps = self.ended = self.won = 0
        self.deepest_overlap = self.worst_crowd = self.longest_push = self.sum_of_crowds = 0.0
        spec = battles.map_spec
        self.kinds = [
            unit_kind(name, battles.engine_settings.balance) for name in (*spec.ally_kinds, *spec.enemy_kinds)
        ]
        self.agents, self.enemies = slice(None, spec.num_agents), slice(spec.num_agents, None)
        self.is_healer = self._of_kinds(lambda kind: kind.healing is not None)
        self.has_healers = bool(self.is_healer.any())
        self._prepare_ground()
        self._prepare_bounds()
        self.now = look(battles.units())
        self.calm = np.full(self.now[X].shape, LONG_AGO)
        self._name_rows(battles.battle_number, battles.battle_step)
        self._check_moment(self.now, battles.action_mask)

    def _of_kinds(self, value):
        """[U]"""
        return np.array([value(kind) for kind in self.kinds])

    def _prepare_ground(self):
        walkable = self.battles.map_spec.walkable
        size_x, self.size_y = walkable.shape
        self.layer = self._of_kinds(lambda kind: 2 if kind.flies else 1 if kind.cliff_walker else 0)
        cells = np.stack([walkable, build_terrain(walkable).passable[1], np.ones_like(walkable)])
        self.cells, self.first_cell = cells.ravel(), self.layer * size_x * self.size_y
        # One row and one column more: units may not leave the map at its eastern and northern edges.
        self.walkable = np.pad(walkable, (0, 1))
        first, second = np.triu_indices(len(self.kinds), 1)
        is_pair = self.layer[first] == self.layer[second]
        self.first, self.second = first[is_pair], second[is_pair]
        radius = self._of_kinds(lambda kind: kind.separation_radius)
        self.touching = radius[self.first] + radius[self.second]

    def _prepare_bounds(self):
        spec, of = self.battles.map_spec, self._of_kinds
        none = of(lambda _: 0.0)
        points_max = of(lambda kind: kind.health + kind.shield)
        self.reward_divisor = (10.0 * spec.num_enemies + 200.0 + points_max[self.enemies].sum()) / 20.0
        self.walk = of(lambda kind: kind.speed_per_loop) * LOOPS
        # Positions are multiples of 1/4096.
        self.largest = np.array([
            *(none + size - 1 / 4096 for size in spec.walkable.shape),
            of(lambda kind: kind.health),
            of(lambda kind: kind.shield),
            of(lambda kind: kind.healing.energy_max if kind.healing else 0.0),
            of(lambda kind: kind.weapon.period_loops + kind.weapon.period_jitter_loops[1] if kind.weapon else 0.0),
        ])[:, None]  # fmt: skip
        healing = of(lambda kind: kind.healing.health_per_loop if kind.healing else 0.0)
        tended = none.copy()
        for side in (self.agents, self.enemies):
            tended[side] = healing[side].sum()
        health_growth = of(lambda kind: kind.health_regen_per_loop)
        health_growth += tended * of(lambda kind: "Biological" in kind.attributes)
        self.energy_growth = of(lambda kind: kind.healing.energy_regen_per_loop if kind.healing else 0.0) * LOOPS
        self.largest_growth = ROUNDING + np.array([
            LOOPS * health_growth,
            LOOPS * of(lambda kind: kind.shield_regen_per_loop),
            self.energy_growth,
        ])[:, None]  # fmt: skip
        self.energy_per_health = max(
            (kind.healing.energy_per_health for kind in self.kinds if kind.healing), default=0.0
        )
        # After a hit in one loop of a step the delay is over in the same loop of a later one.
        self.calm_steps = of(lambda kind: kind.shield_regen_delay_loops) // LOOPS - 1

    def step(self, actions):
        """Plays one step of all battles; returns which ended [B]."""
        battles, before = self.battles, self.now
        number, step = battles.battle_number.copy(), battles.battle_step + 1
        battles.step(actions)
        self.steps += 1
        ended = battles.terminated.copy()
        self.now = look(battles.units())
        last = look(battles.final_units(), ended)
        after = self.now.copy()
        after[:, ended] = last

        self._name_rows(number, step)
        self._forbid(battles.battle_number != number + battles.num_battles * ended, "wrong number of battle")
        self._forbid(battles.battle_step != np.where(ended, 0, step), "wrong step of battle")
        self._forbid(battles.last_actions != np.where(ended[:, None], -1, actions), "wrong last action")
        self._check_changes(before, after)
        self._check_shields(before, after, ended)
        self._check_outcome(before, after, step)
        self._name_rows(*(np.concatenate(pair) for pair in (
            (battles.battle_number, number[ended]), (battles.battle_step, step[ended])
        )))  # fmt: skip
        mask = np.concatenate([battles.action_mask, battles.final_action_mask[ended]])
        self._check_moment(np.concatenate([self.now, last], axis=1), mask)
        self._check_sight(ended)
        if self.steps % SELDOM == 0:
            self._check_overlaps()
            self._check_details(actions, ended)
        self.won += int(battles.battle_won.sum())
        self.ended += int(ended.sum())
        return ended

    @property
    def mean_crowd(self):
        return self.sum_of_crowds / max(self.steps // SELDOM, 1)

    def _name_rows(self, number, step):
        self._number, self._step = number, step

    def _forbid(self, found, what):
        """`found` [R, ...]"""
        if found.any():
            row, *column = np.argwhere(found)[0]
            where = f"battle {self._number[row]}, step {self._step[row]}, column {[int(index) for index in column]}"
            raise AssertionError(f"{self.battles.map_name}, seed {self.battles.seed}: {what}: {where}")

    def _check_moment(self, moment, mask):
        """Checks what must hold at every moment; `mask` [R, N, A]."""
        # NaN fails every comparison.
        within = (moment >= 0.0) & (moment <= self.largest)
        if not within.all():
            for name, row in zip(QUANTITIES, within, strict=True):
                self._forbid(~row, f"{name} out of bounds")
        cell = self.first_cell + moment[X].astype(np.int64) * self.size_y + moment[Y].astype(np.int64)
        self._forbid(~self.cells[cell], "in a cell that is closed to its layer")
        alive = moment[HEALTH] > 0.0
        self._forbid((moment[SHIELD] > 0.0) & ~alive, "a dead unit has a shield")
        self._forbid(mask != self._available(moment, alive, mask.shape), "available actions")

    def _available(self, moment, alive, shape):
        agents, enemies = self.agents, self.enemies
        living = alive[:, agents]
        x, y = moment[PLACE, :, agents]
        expected = np.zeros(shape, np.bool_)
        for action, (east, north) in enumerate(((0, 1), (0, -1), (1, 0), (-1, 0)), start=2):
            expected[:, :, action] = self.walkable[(x + east).astype(np.int64), (y + north).astype(np.int64)]
        dx = moment[X, :, None, enemies] - x[:, :, None]
        dy = moment[Y, :, None, enemies] - y[:, :, None]
        expected[:, :, 6:] = (dx * dx + dy * dy <= 36.0) & alive[:, None, enemies]
        for healer in np.flatnonzero(self.is_healer[agents]):
            squared = (x - x[:, [healer]]) ** 2 + (y - y[:, [healer]]) ** 2
            expected[:, healer, 6:] = False
            expected[:, healer, 6 : 6 + x.shape[1]] = (squared <= 36.0) & living & ~self.is_healer[agents]
        expected &= living[:, :, None]
        expected[:, :, 0] = ~living
        expected[:, :, 1] = living
        return expected

    def _check_changes(self, before, after):
        """Checks what one step may do to units."""
        was_alive, is_alive = before[HEALTH] > 0.0, after[HEALTH] > 0.0
        self._forbid(is_alive & ~was_alive, "risen from the dead")
        moved = after[PLACE] - before[PLACE]
        self._forbid((moved[X] != 0.0) & ~was_alive | (moved[Y] != 0.0) & ~was_alive, "a dead unit moves")
        pushed = np.sqrt(moved[X] ** 2 + moved[Y] ** 2) - self.walk
        self._forbid(pushed > LONGEST_PUSH, "moves too far")
        self.longest_push = max(self.longest_push, pushed.max())
        grown = after[GROWING] - before[GROWING]
        too_much = grown > self.largest_growth
        if too_much.any():
            for name, row in zip(QUANTITIES[GROWING], too_much, strict=True):
                self._forbid(row, f"{name} out of nothing")
        if self.has_healers:
            # On maps with medivacs no unit regains health by itself.
            healed = np.where(is_alive, grown[0], 0.0).clip(0.0) * self.energy_per_health
            spent = np.where(self.is_healer & was_alive, self.energy_growth - grown[2], 0.0)
            for side in (self.agents, self.enemies):
                unpaid = healed[:, side].sum(axis=1) - spent[:, side].sum(axis=1)
                self._forbid(unpaid > ROUNDING, "healing has cost no energy")

    def _check_shields(self, before, after, ended):
        """Shields wait after every hit. A hit that regeneration hides within its step cannot be seen here."""
        change = after[HEALTH : SHIELD + 1] - before[HEALTH : SHIELD + 1]
        self._forbid((change[1] > 0.0) & (self.calm < self.calm_steps), "a shield grows soon after a hit")
        self.calm = np.where(change[0] + change[1] < -ROUNDING, 0, self.calm + 1)
        self.calm[ended] = LONG_AGO

    def _check_outcome(self, before, after, step):
        """Checks reward, end and victory from the units alone; `step` [B] counts this one."""
        battles, fights = self.battles, ~self.is_healer
        alive = after[HEALTH] > 0.0
        agents, enemies = (alive[:, side].sum(axis=1) for side in (self.agents, self.enemies))
        defeat = (agents == 0) & (enemies > 0)
        won = (agents > 0) & (enemies == 0)
        if self.has_healers:
            defeat |= ~(alive & fights)[:, self.agents].any(axis=1)
            won = ~defeat & ~(alive & fights)[:, self.enemies].any(axis=1)
        over = defeat | won | ((agents == 0) & (enemies == 0))
        timed_out = ~over & (step >= battles.episode_limit)
        self._forbid(battles.battle_won != won, "won")
        self._forbid(battles.timed_out != timed_out, "timed out")
        self._forbid(battles.terminated != (over | timed_out), "ended")
        self._forbid(battles.truncated, "truncated")
        self._forbid(battles.dead_allies != battles.num_agents - agents, "dead allies")
        self._forbid(battles.dead_enemies != battles.num_enemies - enemies, "dead enemies")
        lost = (points(before) - points(after))[:, self.enemies].sum(axis=1)
        fallen = ((before[HEALTH] > 0.0) & ~alive)[:, self.enemies].sum(axis=1)
        reward = (np.abs(lost + 10.0 * fallen) + 200.0 * won) / self.reward_divisor
        self._forbid(np.abs(battles.rewards - reward) > ROUNDING, "reward")

    def _check_sight(self, ended):
        battles = self.battles
        seen = [battles.observations, battles.final_observations[ended]]
        told = [battles.state, battles.final_state[ended]]
        for arrays, bound in ((seen, 1.0), (told, 2.0)):
            # In the state cooldowns are shares of maxima which some weapons exceed.
            for array in arrays:
                lowest, highest = array.min(initial=0.0), array.max(initial=0.0)
                assert -1.0 <= lowest and highest <= bound, f"{battles.map_name}: shown {lowest} to {highest}"

    def _check_overlaps(self):
        alive = self.now[HEALTH] > 0.0
        dx, dy = self.now[PLACE, :, self.first] - self.now[PLACE, :, self.second]
        overlap = 1.0 - np.sqrt(dx * dx + dy * dy) / self.touching
        overlap = np.where(alive[:, self.first] & alive[:, self.second], overlap, 0.0).clip(0.0)
        crowd = overlap.sum(axis=1) / alive.sum(axis=1)
        self._forbid(overlap > DEEPEST_OVERLAP, "two units in one place (counted by pairs)")
        self._forbid(crowd > WORST_CROWD, "crowd")
        self.deepest_overlap = max(self.deepest_overlap, overlap.max(initial=0.0))
        self.worst_crowd = max(self.worst_crowd, crowd.max())
        self.sum_of_crowds += crowd.mean()

    def _check_details(self, actions, ended):
        battles = self.battles
        places = np.concatenate(self.now[PLACE] * 4096)
        assert np.array_equal(places, np.rint(places)), "positions have StarCraft II's resolution"
        alive = self.now[HEALTH, :, self.agents] > 0.0
        assert np.array_equal(battles.alive, alive)
        assert not battles.observations[~alive].any(), "the dead see nothing"
        target = battles.units().target
        assert ((target >= -1) & (target < len(self.kinds))).all()
        done = np.arange(battles.num_actions) == actions[:, :, None]
        for state, shown in (
            (battles.state, done & ~ended[:, None, None]),
            (battles.final_state[ended], done[ended]),
        ):
            told = state[:, state.shape[1] - done[0].size :]
            assert np.array_equal(told, shown.reshape(told.shape)), "last actions in the state"
