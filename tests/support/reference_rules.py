"""SMAC's rules written again in slow plain Python, to compare the compiled kernels with.

Written as the rules are told, one agent and one unit at a time, with dictionaries and `math.hypot`; it shares nothing
with the package but the maps (which units, which cells). Units are rows x, y, health, shield, energy, cooldown.
"""

from __future__ import annotations

import math

import numpy as np

from dm2_ray.world.maps.registry import load_map

HEALTH = {
    "marine": 45, "marauder": 125, "medivac": 150, "stalker": 80, "zealot": 100, "colossus": 200,
    "hydralisk": 80, "zergling": 35, "baneling": 30, "spinecrawler": 300,
}  # fmt: skip
SHIELD = {"stalker": 80, "zealot": 50, "colossus": 150}
COOLDOWN = {
    "marine": 15, "marauder": 25, "medivac": 200, "stalker": 35, "zealot": 22, "colossus": 24,
    "hydralisk": 10, "zergling": 11, "baneling": 1,
}  # fmt: skip
TYPES = {
    ("stalkers_and_zealots", 1): {"stalker": 0, "zealot": 1},
    ("stalkers_and_zealots", 2): {"zealot": 0, "stalker": 1},
    ("colossi_stalkers_zealots", 1): {"colossus": 0, "stalker": 1, "zealot": 2},
    ("colossi_stalkers_zealots", 2): {"colossus": 0, "stalker": 1, "zealot": 2},
    ("bane", 1): {"baneling": 0, "zergling": 1},
    ("bane", 2): {"baneling": 0, "zergling": 1},
    ("MMM", 1): {"marauder": 0, "marine": 1, "medivac": 2},
    ("MMM", 2): {"marauder": 0, "marine": 1, "medivac": 2},
}
DEFAULTS = dict(
    move_amount=2, continuing_episode=False, obs_all_health=True, obs_own_health=True, obs_last_action=False,
    obs_pathing_grid=False, obs_terrain_height=False, obs_instead_of_state=False, obs_timestep_number=False,
    state_last_action=True, state_timestep_number=False, reward_sparse=False, reward_only_positive=True,
    reward_death_value=10, reward_win=200, reward_defeat=0, reward_negative_scale=0.5, reward_scale=True,
    reward_scale_rate=20,
)  # fmt: skip


class Unit:
    def __init__(self, kind, side, row):
        self.kind, self.side = kind, side
        self.x, self.y, self.health, self.shield, self.energy, self.cooldown = (float(np.float32(v)) for v in row)
        self.alive = self.health > 0

    def distance(self, other):
        return math.hypot(self.x - other.x, self.y - other.y)


class ReferenceRules:
    def __init__(self, spec, heights, **switches):
        self.map, self.heights = load_map(spec) if isinstance(spec, str) else spec, heights
        self.opt = {**DEFAULTS, **switches}
        if self.opt["obs_all_health"]:
            self.opt["obs_own_health"] = True
        self.mmm = self.map.map_type == "MMM"
        self.bits = self.map.unit_type_bits
        self.width, self.height = self.map.walkable.shape
        self.stats = {"battles_game": 0, "battles_won": 0, "battles_draw": 0, "timeouts": 0}

    def reset(self, allies, enemies):
        self.t, self.last, self.counted = 0, [None] * self.map.num_agents, set()
        self.targets = [None] * self.map.num_agents
        self.place(allies, enemies)
        return self.look()

    def place(self, allies, enemies):
        self.allies = [Unit(k, 1, r) for k, r in zip(self.map.ally_kinds, allies, strict=True)]
        self.enemies = [Unit(k, 2, r) for k, r in zip(self.map.enemy_kinds, enemies, strict=True)]

    def step(self, actions, allies, enemies):
        before = self.allies + self.enemies
        self.place(allies, enemies)
        self.t, self.last = self.t + 1, [int(a) for a in actions]
        reward, ended, info = self.outcome(before, self.allies + self.enemies)
        return *self.look(), reward, ended, info

    def outcome(self, before, now):
        opt = self.opt
        deltas, deaths = {1: 0.0, 2: 0.0}, 0.0
        for index, (old, new) in enumerate(zip(before, now, strict=True)):
            if index in self.counted:
                continue
            loss = old.health + old.shield
            if new.alive:
                loss = loss - new.health - new.shield
            else:
                self.counted.add(index)
                if new.side == 2:
                    deaths += opt["reward_death_value"]
                elif not opt["reward_only_positive"]:
                    deaths -= opt["reward_death_value"] * opt["reward_negative_scale"]
            deltas[new.side] += loss if new.side == 2 else opt["reward_negative_scale"] * loss
        if opt["reward_only_positive"]:
            reward = abs(deltas[2] + deaths)
        else:
            reward = deltas[2] + deaths - deltas[1]
        reward = 0 if opt["reward_sparse"] else reward

        allies = [u for u in self.allies if u.alive]
        enemies = [u for u in self.enemies if u.alive]
        info = {
            "battle_won": False,
            "dead_allies": self.map.num_agents - len(allies),
            "dead_enemies": self.map.num_enemies - len(enemies),
        }
        ended = True
        if (not allies and enemies) or (self.mmm and all(u.kind == "medivac" for u in allies)):
            reward = -1 if opt["reward_sparse"] else reward + opt["reward_defeat"]
        elif (allies and not enemies) or (self.mmm and [u.kind for u in enemies] == ["medivac"]):
            info["battle_won"] = True
            reward = 1 if opt["reward_sparse"] else reward + opt["reward_win"]
        elif allies or enemies:
            ended = self.t >= self.map.episode_limit
            if ended:
                # What SMAC calls a draw is the time limit; both sides dead is neither.
                self.stats["timeouts"] += 1
                self.stats["battles_draw"] += 1
            if ended and opt["continuing_episode"]:
                info["episode_limit"] = True
        self.stats["battles_game"] += ended
        self.stats["battles_won"] += info["battle_won"]
        if opt["reward_scale"]:
            greatest = self.map.num_enemies * opt["reward_death_value"] + opt["reward_win"]
            for kind in self.map.enemy_kinds:
                greatest += HEALTH[kind] + SHIELD.get(kind, 0)
            reward /= greatest / opt["reward_scale_rate"]
        return float(reward), ended, info

    def walkable(self, x, y, outside):
        if 0 <= x < self.width and 0 <= y < self.height:
            return bool(self.map.walkable[x, y])
        return outside

    def avail(self, me):
        row = [0] * self.map.num_actions
        if not me.alive:
            return [1] + row[1:]
        row[1] = 1
        for action, (dx, dy) in enumerate([(0, 1), (0, -1), (1, 0), (-1, 0)], start=2):
            reach = self.opt["move_amount"] / 2
            row[action] = int(self.walkable(math.trunc(me.x + dx * reach), math.trunc(me.y + dy * reach), False))
        targets = list(enumerate(self.enemies))
        if self.mmm and me.kind == "medivac":
            targets = [(i, u) for i, u in enumerate(self.allies) if u.kind != "medivac"]
        for i, target in targets:
            row[6 + i] = int(target.alive and me.distance(target) <= 6)
        return row

    def vitals(self, unit):
        shielded = (self.map.ally_race if unit.side == 1 else self.map.enemy_race) == "P"
        return [unit.health / HEALTH[unit.kind]] + ([unit.shield / SHIELD[unit.kind]] if shielded else [])

    def type_bits(self, unit):
        index = TYPES[self.map.map_type, unit.side][unit.kind] if self.bits else None
        return [float(k == index) for k in range(self.bits)]

    def one_hot(self, action):
        return [float(k == action) for k in range(self.map.num_actions)]

    def obs(self, i):
        opt, me, avail = self.opt, self.allies[i], self.avail(self.allies[i])
        cx, cy, m = math.trunc(me.x), math.trunc(me.y), opt["move_amount"]
        ring = [(0, 2 * m), (0, -2 * m), (2 * m, 0), (-2 * m, 0), (m, m), (-m, -m), (m, -m), (-m, m), (0, 0)]
        cells = [(cx + dx, cy + dy) for dx, dy in ring]
        features = [float(bit) for bit in avail[2:6]]
        if opt["obs_pathing_grid"]:
            features += [float(self.walkable(x, y, True)) for x, y in cells[:8]]
        if opt["obs_terrain_height"]:
            inside = [0 <= x < self.width and 0 <= y < self.height for x, y in cells]
            features += [self.heights[c] / 255 if known else 1.0 for c, known in zip(cells, inside, strict=True)]
        for j, enemy in enumerate(self.enemies):
            row = [avail[6 + j], me.distance(enemy) / 9, (enemy.x - me.x) / 9, (enemy.y - me.y) / 9]
            row += self.vitals(enemy) if opt["obs_all_health"] else []
            row += self.type_bits(enemy)
            features += row if enemy.alive and me.distance(enemy) < 9 else [0.0] * len(row)
        for k, ally in enumerate(self.allies):
            if k == i:
                continue
            row = [1.0, me.distance(ally) / 9, (ally.x - me.x) / 9, (ally.y - me.y) / 9]
            row += self.vitals(ally) if opt["obs_all_health"] else []
            row += self.type_bits(ally)
            row += self.one_hot(self.last[k]) if opt["obs_last_action"] else []
            features += row if ally.alive and me.distance(ally) < 9 else [0.0] * len(row)
        features += self.vitals(me) if opt["obs_own_health"] else []
        features += self.type_bits(me)
        features += [0.0] if opt["obs_timestep_number"] else []
        features = features if me.alive else [0.0] * len(features)
        rounded = np.array(features, dtype=np.float32)
        if opt["obs_timestep_number"]:
            return np.array([*rounded.tolist(), self.t / self.map.episode_limit])
        return rounded

    def state(self):
        opt = self.opt
        if opt["obs_instead_of_state"]:
            return np.concatenate([self.obs(i) for i in range(self.map.num_agents)]).astype(np.float32)
        features = []
        for unit in self.allies + self.enemies:
            row = self.vitals(unit)
            place = [(unit.x - self.width / 2) / self.width, (unit.y - self.height / 2) / self.height]
            if unit.side == 1:
                charge = unit.energy if self.mmm and unit.kind == "medivac" else unit.cooldown
                place = [charge / COOLDOWN.get(unit.kind, 15), *place]
            row = row[:1] + place + row[1:] + self.type_bits(unit)
            features += row if unit.alive else [0.0] * len(row)
        if opt["state_last_action"]:
            for action in self.last:
                features += self.one_hot(action)
        if opt["state_timestep_number"]:
            features.append(self.t / self.map.episode_limit)
        return np.array(features, dtype=np.float32)

    def look(self):
        agents = range(self.map.num_agents)
        return (
            np.stack([self.obs(i) for i in agents]),
            self.state(),
            np.array([self.avail(u) for u in self.allies], dtype=np.int8),
        )

    def visibility(self):
        seen = np.zeros((self.map.num_agents, self.map.num_agents + self.map.num_enemies), dtype=bool)
        for i, me in enumerate(self.allies):
            for u, unit in enumerate(self.allies + self.enemies):
                seen[i, u] = unit is not me and me.alive and unit.alive and me.distance(unit) < 9
        return seen

    def sizes(self):
        """Lengths as SMAC states them; they leave out the time, even where it is observed."""
        opt, spec = self.opt, self.map
        health = {1: 1 + (spec.ally_race == "P"), 2: 1 + (spec.enemy_race == "P")}
        seen = {side: 4 + self.bits + (health[side] if opt["obs_all_health"] else 0) for side in (1, 2)}
        seen[1] += spec.num_actions if opt["obs_last_action"] else 0
        move = 4 + (8 if opt["obs_pathing_grid"] else 0) + (9 if opt["obs_terrain_height"] else 0)
        own = self.bits + (health[1] if opt["obs_own_health"] else 0) + (1 if opt["obs_timestep_number"] else 0)
        obs = move + spec.num_enemies * seen[2] + (spec.num_agents - 1) * seen[1] + own
        state = spec.num_agents * (3 + health[1] + self.bits) + spec.num_enemies * (2 + health[2] + self.bits)
        state += spec.num_agents * spec.num_actions if opt["state_last_action"] else 0
        state += 1 if opt["state_timestep_number"] else 0
        return {
            "obs_size": obs,
            "state_size": spec.num_agents * obs if opt["obs_instead_of_state"] else state,
            "move_feats": move,
            "enemy_feats": (spec.num_enemies, seen[2]),
            "ally_feats": (spec.num_agents - 1, seen[1]),
            "own_feats": own,
        }

    def heuristic(self, rest):
        """Actions of heuristic_ai in the present state; each agent's target is remembered until `reset`."""
        return [self.heuristic_action(i, me, rest) if me.alive else 0 for i, me in enumerate(self.allies)]

    def heuristic_action(self, i, me, rest):
        heals = self.mmm and me.kind == "medivac"
        side = self.allies if heals else self.enemies
        wanted = [
            j
            for j, unit in enumerate(side)
            if unit.alive and not (heals and (unit.kind == "medivac" or unit.health == HEALTH[unit.kind]))
        ]
        if self.targets[i] not in wanted:
            near = [j for j in wanted if me.distance(side[j]) < math.hypot(self.width, self.height)]
            self.targets[i] = min(near, key=lambda j: me.distance(side[j]), default=None)
        if self.targets[i] is None:
            return 0
        attack, target = 6 + self.targets[i], side[self.targets[i]]
        if not rest or self.avail(me)[attack]:
            return attack
        dx, dy = target.x - me.x, target.y - me.y
        if abs(dx) > abs(dy):
            return 4 if dx > 0 else 5
        return 2 if dy > 0 else 3
