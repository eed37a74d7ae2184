"use strict";

// ---- The battle. k counts env steps, u units (agents first), T steps, N agents, U units.

const battle = JSON.parse(document.getElementById("battle").textContent);
const { recording, labels, glyphs } = battle;
const { stage, units, provenance } = recording;
const N = stage.num_agents, U = stage.kinds.length, M = U - N, T = recording.rewards.length;
const stepSeconds = recording.step_loops / battle.loops_per_second;
const FIRST_TARGET = 6;
const SYMBOLS = ["∅", "■", "↑", "↓", "→", "←"];
const LONG_AGO = 1e9;

/** A unit's number; the recording leaves out columns that contain only zeros. */
const at = (name, k, u) => (units[name] ? units[name][k][u] : 0);
const isHealer = (i) => stage.healers.includes(i);
const actionName = (i, action) => battle.action_names[isHealer(i) ? "healer" : "fighter"][action];
const isAvailable = (k, i, action) => (BigInt("0x" + recording.available[k][i]) >> BigInt(action)) & 1n;
const deathStep = Array.from({ length: U }, (_, u) => {
  for (let k = 0; k <= T; k++) if (at("health", k, u) <= 0) return k;
  return Infinity;
});
const cumulative = recording.rewards.reduce((sums, r) => [...sums, sums[sums.length - 1] + r], [0]);
const state = { time: 0, playing: false, speed: 1, hovered: null, selected: null };

/** The step whose actions are played now. */
const currentStep = () => Math.max(0, Math.min(Math.floor(state.time), T - 1));

// ---- Units between steps, computed as in dm2_ray/world/viewing/frame.py.

function unitAt(u, time) {
  const k = Math.min(Math.floor(time), T), share = k < T ? time - k : 0, next = Math.min(k + 1, T);
  const mixed = (name) => at(name, k, u) + share * (at(name, next, u) - at(name, k, u));
  const loops = share * recording.step_loops;
  const before = at("cooldown", k, u), after = at("cooldown", next, u);
  const countedBack = after + recording.step_loops - loops;
  const fired = after > before && countedBack <= Math.max(stage.weapon_period[u], after);
  const later = units.target[next][u];
  return {
    u, x: mixed("x"), y: mixed("y"), health: mixed("health"), shield: mixed("shield"), energy: mixed("energy"),
    cooldown: share === 0 ? before : fired ? countedBack : Math.max(0, before - loops),
    target: share > 0 && later >= 0 ? later : units.target[k][u],
    deadLoops: time >= deathStep[u] ? (time - deathStep[u]) * recording.step_loops : LONG_AGO,
  };
}

// ---- Helpers.

const $ = (id) => document.getElementById(id);

/** Create an element; attributes as in HTML, children are nodes or text. */
function element(tag, attributes = {}, ...children) {
  const isSvg = ["svg", "path", "line", "circle", "rect", "text", "title"].includes(tag);
  const node = isSvg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Set a text or an attribute, but only if it has changed. */
function setText(node, text) { if (node.textContent !== text) node.textContent = text; }
function setAttribute(node, name, value) { if (node.getAttribute(name) !== value) node.setAttribute(name, value); }

function format(value, digits = 2) {
  return value == null ? "–" : value.toFixed(digits).replace("-", "−");
}

// ---- Colors, from the page's style; read again when the user switches between light and dark.

let colors = {};
const darkScheme = matchMedia("(prefers-color-scheme: dark)"), isDark = () => darkScheme.matches;
function readColors() {
  const style = getComputedStyle(document.documentElement);
  const names = ["agents", "enemies", "shield", "energy", "heal", "floor", "high", "low", "off", "edge", "grid", "sign",
    "rim", "ink", "card", "accent"];
  colors = Object.fromEntries(names.map((name) => [name, style.getPropertyValue("--" + name).trim()]));
}
const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
const mix = (a, b, share) => a.map((value, i) => value + share * (b[i] - value));
const css = (c, alpha = 1) => `rgb(${c.map(Math.round).join(" ")} / ${alpha})`;
const teamColor = (u) => rgb(u < N ? colors.agents : colors.enemies);

const AGENT_HUES = [210, 150, 320, 52, 265, 182, 95, 345];
/** Colors of a chart's lines and of the dots beside the agents' names; none is the enemies' orange. */
function agentColor(i) {
  const turn = Math.floor(i / AGENT_HUES.length);
  return `hsl(${AGENT_HUES[i % AGENT_HUES.length] + 17 * turn} ${75 - 12 * turn}% ${52 + 6 * (turn % 2)}%)`;
}

// ---- Battlefield.

const canvas = $("field");
let [west, south, east, north] = stage.view, scale = 1, ground = null;
const toX = (x) => (x - west) * scale, toY = (y) => (north - y) * scale;
const cell = (x, y) => (stage.cells[y] || "")[x] || "#";
const isGround = (x, y) => cell(x, y) === ".";

/** Switch between the whole ground and the part that units reach. */
function toggleCloseUp() {
  const isClose = $("close-up").getAttribute("aria-pressed") === "false";
  [west, south, east, north] = isClose ? battle.close_up : stage.view;
  $("close-up").setAttribute("aria-pressed", String(isClose));
  redrawAll();
}

function fitCanvas() {
  const width = canvas.parentElement.clientWidth;
  // Low enough that the controls stay visible, and sharp on high-resolution screens.
  const height = Math.min(width * (north - south) / (east - west), Math.max(260, innerHeight * 0.68));
  const pixels = Math.min(devicePixelRatio || 1, 3);
  scale = Math.min(width / (east - west), height / (north - south)) * pixels;
  canvas.width = Math.round((east - west) * scale);
  canvas.height = Math.round((north - south) * scale);
  canvas.style.width = canvas.width / pixels + "px";
  canvas.style.margin = "0 auto";
  ground = paintGround();
}

function heightAt(x, y) {
  const rows = stage.terrain_height, lastX = rows[0].length - 1, lastY = rows.length - 1;
  const cx = Math.max(0, Math.min(x, lastX)), cy = Math.max(0, Math.min(y, lastY));
  const i = Math.min(Math.floor(cx), lastX - 1), j = Math.min(Math.floor(cy), lastY - 1), a = cx - i, b = cy - j;
  const along = (row) => row[i] * (1 - a) + row[i + 1] * a;
  return along(rows[j]) * (1 - b) + along(rows[j + 1]) * b;
}

/** The most frequent height of the ground. */
function floorHeight() {
  const counts = new Map();
  stage.cells.forEach((row, y) => [...row].forEach((_, x) => {
    if (!isGround(x, y)) return;
    const level = Math.round(stage.terrain_height[y][x]);
    counts.set(level, (counts.get(level) || 0) + 1);
  }));
  return [...counts].sort((a, b) => b[1] - a[1])[0]?.[0] ?? 0;
}

function paintGround() {
  const fine = 6, w = (east - west) * fine, h = (north - south) * fine, floor = floorHeight(), level = 2;
  const [floorColor, high, low, off] = ["floor", "high", "low", "off"].map((name) => rgb(colors[name]));
  const texture = element("canvas", { width: w, height: h });
  const pen = texture.getContext("2d"), image = pen.createImageData(w, h);
  for (let row = 0; row < h; row++) for (let column = 0; column < w; column++) {
    const x = west + (column + 0.5) / fine, y = north - (row + 0.5) / fine, up = (heightAt(x, y) - floor) / level;
    let color = mix(floorColor, up > 0 ? high : low, Math.min(1, Math.abs(up)));
    if (!isGround(Math.floor(x), Math.floor(y))) color = mix(color, off, 0.8);
    const rise = (dx, dy) => (heightAt(x + dx, y + dy) - heightAt(x - dx, y - dy)) / 0.4 / level;
    const slope = rise(0.2, 0) - rise(0, 0.2);
    const light = up > -0.6 ? -14 * Math.max(-1, Math.min(1, slope)) : 0;
    image.data.set([...color.map((c) => c + light), 255], 4 * (row * w + column));
  }
  pen.putImageData(image, 0, 0);
  const picture = element("canvas", { width: canvas.width, height: canvas.height }), g = picture.getContext("2d");
  g.imageSmoothingEnabled = true;
  g.drawImage(texture, 0, 0, picture.width, picture.height);
  const lines = { grid: new Path2D(), edge: new Path2D() };
  for (let x = Math.floor(west); x < east; x++) for (let y = Math.floor(south); y < north; y++) {
    const here = isGround(x, y);
    for (const [i, j, from, to] of [[x - 1, y, [x, y], [x, y + 1]], [x, y - 1, [x, y], [x + 1, y]]]) {
      const there = isGround(i, j);
      if (!here && !there) continue;
      const path = here && there ? lines.grid : lines.edge;
      path.moveTo(toX(from[0]), toY(from[1]));
      path.lineTo(toX(to[0]), toY(to[1]));
    }
  }
  g.lineWidth = Math.max(1, 0.04 * scale); g.strokeStyle = colors.grid; g.stroke(lines.grid);
  g.lineWidth = Math.max(1, 0.09 * scale); g.lineCap = "square"; g.strokeStyle = colors.edge; g.stroke(lines.edge);
  return picture;
}

function drawField() {
  const g = canvas.getContext("2d");
  g.clearRect(0, 0, canvas.width, canvas.height);
  g.drawImage(ground, 0, 0);
  const now = Array.from({ length: U }, (_, u) => unitAt(u, state.time));
  const alive = now.filter((unit) => unit.health > 0), aiming = alive.filter((unit) => unit.target >= 0);
  now.filter((unit) => unit.health <= 0).forEach((unit) => drawFallen(g, unit));
  aiming.forEach((unit) => drawAim(g, unit, now[unit.target]));
  // Large units last: medivacs and colossi are above the others.
  [...alive].sort((a, b) => stage.radius[a.u] - stage.radius[b.u]).forEach((unit) => drawUnit(g, unit));
  aiming.forEach((unit) => drawImpact(g, unit, now[unit.target]));
  if (state.selected !== null) drawMark(g, now[state.selected], 1);
  if (state.hovered !== null) drawMark(g, now[state.hovered], 0.6);
}

function polygons(g, list, x, y, radius) {
  g.beginPath();
  for (const polygon of list) {
    polygon.forEach(([px, py], i) => g[i ? "lineTo" : "moveTo"](x + px * radius, y - py * radius));
    g.closePath();
  }
  g.fill();
}

function arc(g, x, y, radius, width, share, color) {
  if (share <= 0) return;
  g.beginPath();
  g.arc(x, y, radius - width / 2, -Math.PI / 2, -Math.PI / 2 + 2 * Math.PI * Math.min(1, share));
  g.lineWidth = width; g.lineCap = "butt"; g.strokeStyle = color; g.stroke();
}

function disc(g, x, y, radius, color) {
  g.beginPath(); g.arc(x, y, radius, 0, 2 * Math.PI); g.fillStyle = color; g.fill();
}

function drawUnit(g, unit) {
  const { u } = unit, x = toX(unit.x), y = toY(unit.y), radius = Math.max(3, stage.radius[u] * scale);
  const team = teamColor(u), ring = 0.2 * radius, black = [0, 0, 0], white = [255, 255, 255];
  disc(g, x, y, radius + 0.06 * scale, colors.rim);
  // Health contrasts with the ground: light on dark, dark on light.
  const [full, lost] = isDark()
    ? [mix(team, white, 0.76), mix(team, black, 0.62)] : [mix(team, black, 0.45), mix(team, white, 0.72)];
  disc(g, x, y, radius, css(lost));
  disc(g, x, y, radius - ring, css(team));
  if (unit.cooldown > 0 && stage.weapon_period[u] > 0) {
    const share = Math.min(1, unit.cooldown / stage.weapon_period[u]);
    g.beginPath(); g.moveTo(x, y);
    g.arc(x, y, radius - ring, -Math.PI / 2 - 2 * Math.PI * share, -Math.PI / 2);
    g.fillStyle = css(mix(team, black, 0.42)); g.fill();
  }
  g.fillStyle = colors.sign;
  polygons(g, glyphs[stage.kinds[u]], x, y, radius - ring);
  arc(g, x, y, radius, ring, unit.health / stage.health_max[u], css(full));
  const outer = radius + 0.05 * scale + 0.8 * ring;
  if (stage.shield_max[u]) arc(g, x, y, outer, 0.8 * ring, unit.shield / stage.shield_max[u], colors.shield);
  if (stage.energy_max[u]) arc(g, x, y, outer, 0.8 * ring, unit.energy / stage.energy_max[u], colors.energy);
}

const SHOT_LOOPS = 3, BLAST_LOOPS = 8;

/** 1 when a unit's weapon has just been fired, falling to 0 afterwards. */
function shotStrength(unit) {
  const age = Math.max(0, stage.weapon_period[unit.u] - unit.cooldown);
  return unit.cooldown > 0 ? Math.max(0, 1 - age / SHOT_LOOPS) : 0;
}

function drawAim(g, unit, target) {
  const heals = stage.energy_max[unit.u] > 0, isMarked = unit.u === state.selected || unit.u === state.hovered;
  const color = heals ? rgb(colors.heal) : teamColor(unit.u), strength = shotStrength(unit);
  const line = (width, style) => {
    g.beginPath(); g.moveTo(toX(unit.x), toY(unit.y)); g.lineTo(toX(target.x), toY(target.y));
    g.lineWidth = width * scale; g.lineCap = "round"; g.strokeStyle = style; g.stroke();
  };
  line(0.06, css(color, isMarked ? 1 : heals ? 0.7 : 0.3));
  if (strength > 0 && stage.weapon_range[unit.u] >= 1) line(0.11, css(color, 0.9 * strength));
}

function drawImpact(g, unit, target) {
  const strength = shotStrength(unit), dx = unit.x - target.x, dy = unit.y - target.y;
  if (strength === 0) return;
  const share = Math.min(1, stage.radius[target.u] / (Math.hypot(dx, dy) || 1));
  const x = toX(target.x + share * dx), y = toY(target.y + share * dy), size = (0.14 + 0.14 * strength) * scale;
  g.beginPath();
  for (const [a, b] of [[1, 0], [0, 1], [0.7, 0.7], [0.7, -0.7]]) {
    g.moveTo(x - a * size, y - b * size); g.lineTo(x + a * size, y + b * size);
  }
  g.lineWidth = 0.07 * scale; g.lineCap = "round"; g.globalAlpha = strength;
  g.strokeStyle = css(mix(teamColor(unit.u), isDark() ? [255, 255, 255] : [0, 0, 0], 0.6)); g.stroke();
  g.globalAlpha = 1;
}

function drawFallen(g, unit) {
  const x = toX(unit.x), y = toY(unit.y), arm = 0.5 * stage.radius[unit.u] * scale + 2, team = teamColor(unit.u);
  const fresh = Math.max(0, 1 - unit.deadLoops / BLAST_LOOPS), blast = stage.blast_radius[unit.u] * scale;
  if (blast > 0 && fresh > 0) disc(g, x, y, blast, css(team, 0.3 * fresh));
  g.beginPath();
  g.moveTo(x - arm, y - arm); g.lineTo(x + arm, y + arm); g.moveTo(x - arm, y + arm); g.lineTo(x + arm, y - arm);
  g.lineWidth = 0.1 * scale; g.lineCap = "round"; g.strokeStyle = css(team, 0.4 + 0.5 * fresh); g.stroke();
}

function drawMark(g, unit, strength) {
  g.beginPath();
  g.arc(toX(unit.x), toY(unit.y), (stage.radius[unit.u] + 0.34) * scale, 0, 2 * Math.PI);
  g.lineWidth = 0.09 * scale; g.globalAlpha = strength; g.strokeStyle = colors.ink; g.stroke(); g.globalAlpha = 1;
}

/** The unit under the pointer; living units come before dead ones. */
function unitUnder(event) {
  const box = canvas.getBoundingClientRect(), pixels = canvas.width / box.width;
  const x = west + (event.clientX - box.left) * pixels / scale, y = north - (event.clientY - box.top) * pixels / scale;
  let found = null, nearest = Infinity;
  for (let u = 0; u < U; u++) {
    const unit = unitAt(u, state.time), away = Math.hypot(unit.x - x, unit.y - y) - stage.radius[u];
    const rank = away + (unit.health > 0 ? 0 : 10);
    if (away < 0.35 && rank < nearest) [found, nearest] = [u, rank];
  }
  return found;
}

function buildLegend() {
  const icon = (...shapes) => element("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" }, ...shapes);
  const dot = (color) => icon(element("circle", { r: 6, fill: color }));
  const ring = (color) => icon(
    element("circle", { r: 5.5, fill: "none", stroke: "var(--line)", "stroke-width": 3 }),
    element("path", { d: "M0-5.5A5.5 5.5 0 1 1-5.5 0", fill: "none", stroke: color, "stroke-width": 3 }));
  const wedge = element("path", { d: "M0 0V-6A6 6 0 0 0-6 0z", fill: "var(--muted)" });
  const cross = element("path", { d: "M-4-4 4 4M-4 4 4-4", stroke: "var(--muted)", "stroke-width": 2 });
  const entries = [
    [dot("var(--agents)"), "agents"], [dot("var(--enemies)"), "enemies"], [ring("var(--ink)"), "health"],
    ...(stage.shield_max.some(Boolean) ? [[ring("var(--shield)"), "shield"]] : []),
    ...(stage.energy_max.some(Boolean) ? [[ring("var(--energy)"), "energy"]] : []),
    [icon(element("circle", { r: 6, fill: "var(--line)" }), wedge), "cooldown"], [icon(cross), "dead"],
  ];
  $("legend").append(...entries.map(([shape, text]) => element("span", {}, shape, text)));
}

// ---- Unit panel.

function renderUnit() {
  const u = state.hovered ?? state.selected, panel = $("unit");
  if (u === null) {
    const hint = "Point at a unit, or at a row of the table, to see its numbers.";
    panel.replaceChildren(element("h2", {}, "Unit"), element("p", { class: "muted" }, hint));
    return;
  }
  const unit = unitAt(u, state.time), k = currentStep(), rows = [];
  const bar = (name, value, most, color) => {
    const filled = element("i", { style: `width:${Math.min(100, 100 * value / most)}%;background:${color}` });
    rows.push(element("span", { class: "muted" }, name), element("span", { class: "bar" }, filled),
      element("b", {}, `${format(value, 1)} / ${format(most, 0)}`));
  };
  const line = (name, text) =>
    rows.push(element("span", { class: "muted" }, name), element("b", { class: "wide" }, text));
  bar("Health", unit.health, stage.health_max[u], u < N ? "var(--agents)" : "var(--enemies)");
  if (stage.shield_max[u]) bar("Shield", unit.shield, stage.shield_max[u], "var(--shield)");
  if (stage.energy_max[u]) bar("Energy", unit.energy, stage.energy_max[u], "var(--energy)");
  if (unit.health <= 0) line("Fell", `in step ${deathStep[u]}`);
  else {
    if (stage.weapon_period[u]) bar("Cooldown", unit.cooldown, stage.weapon_period[u], "var(--muted)");
    line("Position", `${format(unit.x)}, ${format(unit.y)}`);
    line("Target", unit.target < 0 ? "none" : `${unit.target < N ? "agent" : "enemy"} ${labels[unit.target]}`);
  }
  if (u < N && T > 0) {
    line("Action", actionName(u, recording.actions[k][u]));
    for (const [name, values] of Object.entries(recording.series)) line(seriesTitles(name)[0], format(values[k][u], 3));
  }
  const side = element("span", { class: "muted" }, u < N ? ` · agent ${u}` : ` · enemy ${u - N}`);
  panel.replaceChildren(element("h2", {}, labels[u], side), element("div", { class: "panel" }, ...rows));
}

// ---- Table of agents.

/** Names of the series in the panel, in the table, and above the chart. */
const SERIES = {
  matching_reward: ["Matching reward", "Matching", "Matching reward of each agent"],
  action_probability: ["Probability of action", "Prob.", "Probability of each agent's action"],
  value: ["Value estimate", "Value", "Each agent's value estimate"],
};
const seriesNames = Object.keys(recording.series);
const seriesTitles = (name) => SERIES[name] || Array(3).fill(name.replaceAll("_", " "));
const rows = [];

function buildTable() {
  const head = [["Agent"], ["Action"], ["Available"], ...seriesNames.map((name) => [seriesTitles(name)[1], "number"])];
  const titles = head.map(([text, kind]) => element("th", { scope: "col", class: kind || "" }, text));
  $("agents").tHead.rows[0].append(...titles);
  for (let i = 0; i < N; i++) {
    const health = element("i"), action = element("td", { class: "action" }), strip = buildStrip();
    const swatch = element("span", { class: "swatch", style: `background:${agentColor(i)}` });
    const name = element("span", {}, labels[i], element("span", { class: "health" }, health));
    const button = element("button", { "aria-pressed": "false" }, swatch, name);
    const cells = seriesNames.map(() => element("td", { class: "number" }));
    const row = element("tr", { class: isHealer(i) ? "heals" : "" },
      element("td", {}, button), action, element("td", {}, strip.svg), ...cells);
    button.addEventListener("click", () => select(i));
    row.addEventListener("pointerenter", () => hover(i));
    row.addEventListener("pointerleave", () => hover(null));
    $("agents").tBodies[0].append(row);
    rows.push({ row, health, action, strip, button, cells, step: null });
  }
}

/** Symbols for no-op, stop and the moves, then a small box for each target. */
function buildStrip() {
  const wide = 11, pitch = Math.max(2.5, Math.min(8, 96 / M)), box = Math.max(1.6, pitch - 2);
  const start = SYMBOLS.length * wide + 6;
  const svg = element("svg", { class: "strip", width: start + M * pitch, height: 14, role: "img" });
  const marks = SYMBOLS.map((symbol, a) => element("text", { x: wide * (a + 0.5), y: 11 }, symbol));
  for (let j = 0; j < M; j++) {
    marks.push(element("rect", { x: start + j * pitch, y: 2, width: box, height: 10, rx: 1 }));
  }
  const chosen = element("rect", { class: "chosen", y: 0.8, height: 12.4, rx: 3 });
  svg.append(...marks, chosen);
  const place = (a) => (a < FIRST_TARGET ? [wide * a, wide] : [start + (a - FIRST_TARGET) * pitch - 2, box + 4]);
  return { svg, marks, chosen, place };
}

function renderTable() {
  const k = currentStep();
  rows.forEach((entry, i) => {
    entry.health.style.width = `${100 * unitAt(i, state.time).health / stage.health_max[i]}%`;
    setAttribute(entry.button, "aria-pressed", String(state.selected === i));
    entry.row.classList.toggle("marked", state.selected === i || state.hovered === i);
    entry.row.classList.toggle("dead", state.time >= deathStep[i]);
    if (T === 0 || entry.step === k) return;
    entry.step = k;
    const action = recording.actions[k][i], names = [];
    setText(entry.action, actionName(i, action));
    entry.strip.marks.forEach((mark, a) => {
      const available = isAvailable(k, i, a);
      if (available) names.push(actionName(i, a));
      setAttribute(mark, "class", available ? (a < FIRST_TARGET ? "" : "yes") : "no");
    });
    ["x", "width"].forEach((name, n) => setAttribute(entry.strip.chosen, name, String(entry.strip.place(action)[n])));
    setAttribute(entry.strip.svg, "aria-label", "available: " + names.join(", "));
    entry.cells.forEach((td, c) => setText(td, format(recording.series[seriesNames[c]][k][i])));
  });
}

// ---- Charts: 100 x 100 units, stretched; x is time.

const charts = [];

/**
 * lines: [{ values at 0.5, 1.5, ... or, with `atSteps`, at 0, 1, ...; color; width; agent }]. `bars` have a scale of
 * their own, on which the tallest is as high as the chart.
 */
function addChart(home, id, title, lines, bars = null) {
  const finite = lines.flatMap((line) => line.values).filter((value) => value != null);
  const low = Math.min(0, ...finite), high = Math.max(0, ...finite) || (low === 0 ? 1 : 0);
  const px = (time) => 100 * time / Math.max(T, 1), py = (value) => 100 * (high - value) / (high - low);
  const svg = element("svg", {
    viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img", "aria-label": `${title} over time`,
  });
  svg.append(element("line", { class: "zero", x1: 0, x2: 100, y1: py(0), y2: py(0) }));
  const tallest = Math.max(...(bars || []).map(Math.abs)) || 1, room = bars && Math.min(...bars) < 0 ? 50 : 100;
  if (bars) svg.append(element("path", {
    d: bars.map((value, k) => `M${px(k + 0.5)} ${room}v${(-room * value / tallest).toFixed(2)}`).join(""),
    style: `stroke:var(--bars);stroke-width:${Math.max(1, Math.min(9, 420 / T))}px`,
  }));
  const paths = lines.map(({ values, color, width, atSteps }) => {
    let pen = "M";
    const d = values.map((value, k) => {
      if (value == null) { pen = "M"; return ""; }
      const piece = `${pen}${px(k + (atSteps ? 0 : 0.5)).toFixed(3)} ${py(value).toFixed(3)}`;
      pen = "L";
      return piece;
    }).join("");
    return svg.appendChild(element("path", { d, style: `stroke:${color};stroke-width:${width}px` }));
  });
  const cursor = svg.appendChild(element("line", { class: "cursor", y1: 0, y2: 100 }));
  const readout = element("span");
  const axis = (value, style) => element("span", { class: "axis", style }, format(value, Math.abs(value) < 10 ? 2 : 0));
  const plot = element("div", { class: "plot" }, svg, axis(high, "right:0;top:0"), axis(low, "right:0;bottom:0"));
  $(home).append(element("figure", { id }, element("figcaption", {}, title, readout), plot));
  const seekTo = (event) => {
    const box = svg.getBoundingClientRect();
    seek(T * (event.clientX - box.left) / box.width);
  };
  plot.addEventListener("pointerdown", (event) => { plot.setPointerCapture(event.pointerId); seekTo(event); });
  plot.addEventListener("pointermove", (event) => { if (event.buttons & 1) seekTo(event); });
  charts.push({ cursor, px, readout, paths, lines });
  return charts[charts.length - 1];
}

function buildCharts() {
  const most = T ? format(Math.max(...recording.rewards.map(Math.abs))) : "";
  const reward = addChart("charts", "reward-chart", `Return, and team reward as bars (tallest ${most})`,
    [{ values: cumulative, color: "var(--accent)", width: 2, atSteps: true }], recording.rewards);
  reward.read = (k) =>
    T ? `reward ${format(recording.rewards[k])} · return ${format(cumulative[Math.floor(state.time)])}` : "";
  for (const name of seriesNames) {
    const values = recording.series[name];
    const home = name === "matching_reward" ? "charts" : "more-charts";
    const chart = addChart(home, name.replaceAll("_", "-") + "-chart", seriesTitles(name)[2],
      Array.from({ length: N }, (_, agent) => (
        { values: values.map((row) => row[agent]), color: agentColor(agent), width: 1.5, agent })));
    chart.read = (k) => {
      const u = state.hovered ?? state.selected;
      return u !== null && u < N && T ? `${labels[u]}: ${format(values[k][u], 3)}` : "";
    };
  }
}

function renderCharts() {
  const u = state.hovered ?? state.selected, one = u !== null && u < N;
  for (const chart of charts) {
    for (const end of ["x1", "x2"]) setAttribute(chart.cursor, end, String(chart.px(state.time)));
    setText(chart.readout, chart.read(currentStep()));
    chart.paths.forEach((path, i) => {
      const { agent } = chart.lines[i];
      path.classList.toggle("dim", one && agent !== undefined && agent !== u);
    });
  }
}

// ---- Playback.

const PLAY = "M3 1.5v13L14 8z", PAUSE = "M3 2h3.6v12H3zM9.4 2H13v12H9.4z";
let lastFrame = null;

function render() {
  drawField();
  renderUnit();
  renderTable();
  renderCharts();
  const isOver = state.time >= T, k = Math.floor(state.time);
  $("scrub").value = state.time;
  $("scrub").setAttribute("aria-valuetext", `step ${k} of ${T}`);
  setText($("clock"), `step ${k} of ${T}`);
  setAttribute($("play-icon"), "d", state.playing ? PAUSE : PLAY);
  setAttribute($("play"), "aria-label", state.playing ? "Pause" : "Play");
  $("outcome").hidden = !isOver;
}

/** Render once before the next frame of the browser, however often this is called. */
let pending = false;
function refresh() {
  if (pending || state.playing) return;
  pending = true;
  requestAnimationFrame(() => { pending = false; render(); });
}

function tick(now) {
  if (!state.playing) return;
  if (lastFrame !== null) state.time = Math.min(T, state.time + (now - lastFrame) / 1000 * state.speed / stepSeconds);
  lastFrame = now;
  if (state.time >= T) pause();
  render();
  requestAnimationFrame(tick);
}

function play() {
  if (state.time >= T) state.time = 0;
  state.playing = true;
  lastFrame = null;
  requestAnimationFrame(tick);
}
function pause() { state.playing = false; refresh(); }
function toggle() { if (state.playing) pause(); else play(); }
function seek(time) { state.time = Math.max(0, Math.min(T, time)); refresh(); }
function step(by) { pause(); seek(by > 0 ? Math.floor(state.time + 1e-6) + 1 : Math.ceil(state.time - 1e-6) - 1); }
function hover(u) { if (state.hovered !== u) { state.hovered = u; refresh(); } }
function select(u) { state.selected = state.selected === u ? null : u; refresh(); }
function changeSpeed(by) {
  const choice = $("speed");
  choice.selectedIndex = Math.max(0, Math.min(choice.options.length - 1, choice.selectedIndex + by));
  state.speed = Number(choice.value);
}

// ---- User input.

$("play").addEventListener("click", toggle);
$("back").addEventListener("click", () => step(-1));
$("forward").addEventListener("click", () => step(1));
$("scrub").addEventListener("input", (event) => seek(Number(event.target.value)));
$("speed").addEventListener("change", () => changeSpeed(0));
$("close-up").addEventListener("click", toggleCloseUp);
canvas.addEventListener("pointermove", (event) => hover(unitUnder(event)));
canvas.addEventListener("pointerleave", () => hover(null));
canvas.addEventListener("click", (event) => select(unitUnder(event)));

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const onControl = event.target.closest("button, select");
  const moves = {
    ArrowLeft: () => step(-1), ArrowRight: () => step(1), Home: () => seek(0), End: () => seek(T),
    "+": () => changeSpeed(1), "-": () => changeSpeed(-1), c: toggleCloseUp,
  };
  if (event.key === " " && !onControl) toggle();
  else if (event.key in moves && !(onControl && onControl.tagName === "SELECT")) moves[event.key]();
  else return;
  event.preventDefault();
});

function redrawAll() { readColors(); fitCanvas(); refresh(); }
darkScheme.addEventListener("change", redrawAll);
new ResizeObserver(redrawAll).observe(canvas.parentElement);

// ---- Start.

function describe() {
  const { team, seed, battle: number, engine } = provenance;
  setText($("title"), stage.map_name);
  setText($("facts"), [team, `battle ${number} of seed ${seed}`, `${engine} engine`].filter(Boolean).join(" · "));
  const mood = recording.outcome === "won" ? "won" : recording.outcome === "unfinished" ? "" : "lost";
  setText($("result"), battle.outcome_text);
  $("result").classList.add("chip", ...(mood ? [mood] : ["muted"]));
  const summary = `${T} steps · return ${format(cumulative[T])}`;
  $("outcome").append(element("span", { class: mood }, battle.outcome_text), element("small", {}, summary));
  $("scrub").max = T;
  // As high as for the largest unit panel, so that the content below does not move.
  const lines = 5 + stage.shield_max.some(Boolean) + stage.energy_max.some(Boolean) + seriesNames.length;
  $("unit").style.minHeight = `${56 + 25 * lines}px`;
}

readColors();
describe();
buildLegend();
buildTable();
buildCharts();
fitCanvas();
// replay.html#12.5,3,c starts in the middle of step 12, with unit 3 selected, close up.
const [beginning, chosenUnit, close] = location.hash.slice(1).split(",");
if (close === "c") toggleCloseUp();
if (chosenUnit && Number(chosenUnit) < U) state.selected = Number(chosenUnit);
seek(Number(beginning) || 0);
render();
