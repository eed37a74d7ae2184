"""The HTML replay in a real browser, used as a reader uses it."""

from __future__ import annotations

import dataclasses
import html.parser
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.chromium import Browser, Page, find_browser
from support.recorded_battles import record_battle

from dm2_ray.world import BattleVector
from dm2_ray.world.viewing.battle_recording import BattleRecorder, BattleRecording
from dm2_ray.world.viewing.html_replay import html_page, write_html

needs_browser = pytest.mark.skipif(find_browser() is None, reason="no chromium or google-chrome on PATH")

OpenPage = Callable[..., Page]


def play(map_name: str, team_name: str) -> BattleRecording:
    return record_battle(map_name, team_name, label=f"scripted team {team_name}")


@pytest.fixture(scope="module")
def recording() -> BattleRecording:
    return play("2s3z", "kite")


@pytest.fixture(scope="module")
def matched(recording: BattleRecording) -> BattleRecording:
    rng = np.random.default_rng(0)
    series = np.cumsum(rng.normal(size=recording.actions.shape), axis=0)
    return recording.with_series(matching_reward=series, action_probability=rng.uniform(size=series.shape))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    executable = find_browser()
    assert executable is not None
    browser = Browser(executable, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[OpenPage]:
    pages: list[Page] = []

    def open_page(recording: BattleRecording, fragment: str = "", **view: object) -> Page:
        path = tmp_path / f"replay-{len(pages)}.html"
        write_html(recording, path)
        pages.append(browser.open(path.as_uri() + fragment, **view))  # type: ignore[arg-type]
        return pages[-1]

    yield open_page
    for page in pages:
        complaints = page.events("Runtime.exceptionThrown") + page.events("Log.entryAdded")
        complaints += [e for e in page.events("Runtime.consoleAPICalled") if e["type"] in ("error", "warning")]
        requests = [event["request"]["url"] for event in page.events("Network.requestWillBeSent")]
        page.close()
        assert complaints == []
        assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
        assert len([url for url in requests if url.startswith("file:")]) == 1  # the page itself


def step_of(page: Page) -> int:
    match = re.fullmatch(r"step (\d+) of \d+", page.text("#clock"))
    assert match is not None
    return int(match[1])


def actions_shown(page: Page) -> list[str]:
    return page.texts("#agents tbody td.action")


def names_of(recording: BattleRecording, step: int) -> list[str]:
    scene = recording.scene
    return [scene.action_names(i)[action] for i, action in enumerate(recording.actions[step])]


# The file.


def test_the_page_is_one_file_without_addresses(recording: BattleRecording) -> None:
    page = html_page(recording)
    assert "{{" not in page
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # a name, never fetched
    assert not re.findall(r"<(?:script|img|iframe|link)[^>]*(?:src|href)=\"(?!data:)", page)
    assert "default-src 'none'" in page


def test_what_it_says_cannot_break_out(recording: BattleRecording) -> None:
    nasty = "</script><script>alert(1)</script><!-- \u2028 & {{title}} {{battle}}"
    provenance = dataclasses.replace(recording.provenance, team=nasty)
    page = html_page(dataclasses.replace(recording, provenance=provenance))
    scripts: list[str] = []

    class Scripts(html.parser.HTMLParser):
        inside = False

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.inside = tag == "script"

        def handle_data(self, data: str) -> None:
            if self.inside:
                scripts.append(data)
                self.inside = False

    Scripts().feed(page)
    assert len(scripts) == 2
    content = json.loads(scripts[0])
    assert content["recording"]["provenance"]["team"] == nasty
    assert BattleRecording.from_json(json.dumps(content["recording"])).num_steps == recording.num_steps


def test_the_file_is_written_whole(recording: BattleRecording, tmp_path: Path) -> None:
    write_html(recording, tmp_path / "new" / "replay.html")
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == ["replay.html"]
    assert (tmp_path / "new" / "replay.html").stat().st_size < 200_000


# In the browser.


@needs_browser
def test_it_plays_pauses_and_ends(open_page: OpenPage, recording: BattleRecording) -> None:
    page = open_page(recording)
    assert step_of(page) == 0
    assert page.value("document.getElementById('outcome').checkVisibility()") is False
    page.click(*page.place("#play"))
    assert page.value("document.getElementById('play').getAttribute('aria-label')") == "Pause"
    page.wait_for("parseFloat(document.getElementById('scrub').value) > 1")
    page.click(*page.place("#play"))
    stopped = page.value("document.getElementById('scrub').value")
    page.value("new Promise(done => setTimeout(done, 250))")
    assert page.value("document.getElementById('scrub').value") == stopped
    assert page.value("document.getElementById('play').getAttribute('aria-label')") == "Play"
    # The fastest speed, to the end.
    page.value("document.getElementById('speed').focus()")
    page.press("End")
    assert page.value("document.getElementById('speed').value") == "8"
    page.click(*page.place("#play"))
    page.wait_for("document.getElementById('outcome').checkVisibility()")
    assert step_of(page) == recording.num_steps
    assert page.value("document.getElementById('play').getAttribute('aria-label')") == "Play"
    assert "Victory" in page.text("#outcome") and f"{recording.num_steps} steps" in page.text("#outcome")
    # Once more from the beginning.
    page.click(*page.place("#play"))
    page.wait_for("!document.getElementById('outcome').checkVisibility()")


@needs_browser
def test_speed_is_the_games(open_page: OpenPage, recording: BattleRecording) -> None:
    page = open_page(recording)
    measured = page.value(
        "(async () => { const scrub = document.getElementById('scrub');"
        " const wait = ms => new Promise(done => setTimeout(done, ms));"
        " document.getElementById('play').click(); await wait(300);"
        " const begin = [performance.now(), +scrub.value]; await wait(1200);"
        " return (scrub.value - begin[1]) / (performance.now() - begin[0]) * 1000; })()"
    )
    assert measured == pytest.approx(22.4 / 8, rel=0.15)  # env steps a second


@needs_browser
def test_scrubbing_and_stepping(open_page: OpenPage, recording: BattleRecording) -> None:
    page = open_page(recording)
    page.click(*page.place("#scrub", across=0.5))
    middle = step_of(page)
    assert middle == pytest.approx(recording.num_steps / 2, abs=2)
    page.click(*page.place("#forward"))
    assert step_of(page) == middle + 1 and page.value("+document.getElementById('scrub').value") == middle + 1
    page.click(*page.place("#back"))
    page.click(*page.place("#back"))
    assert step_of(page) == middle - 1
    page.drag(page.place("#scrub", across=(middle - 1) / recording.num_steps), page.place("#scrub", across=1.1))
    assert step_of(page) == recording.num_steps
    assert page.value("document.getElementById('outcome').checkVisibility()")
    # The chart is a time line, too.
    page.click(*page.place("#reward-chart .plot svg", across=0.25))
    assert step_of(page) == pytest.approx(recording.num_steps / 4, abs=1)


@needs_browser
def test_the_keyboard(open_page: OpenPage, recording: BattleRecording) -> None:
    page = open_page(recording)
    page.press("ArrowRight")
    page.press("ArrowRight")
    page.press("ArrowRight")
    page.press("ArrowLeft")
    assert step_of(page) == 2
    page.press("End")
    assert step_of(page) == recording.num_steps
    page.press("Home")
    assert step_of(page) == 0
    page.press("+")
    assert page.value("document.getElementById('speed').value") == "2"
    page.press(" ")
    page.wait_for("parseFloat(document.getElementById('scrub').value) > 0.5")
    page.press(" ")
    stopped = page.value("document.getElementById('scrub').value")
    page.settle()
    assert page.value("document.getElementById('scrub').value") == stopped
    # A focused button is pressed by the space bar, and nothing else happens.
    page.press("Home")
    page.value("document.getElementById('forward').focus()")
    page.press(" ")
    assert step_of(page) == 1 and page.value("document.getElementById('play').getAttribute('aria-label')") == "Play"


@needs_browser
def test_the_table_tells_every_agents_choice(open_page: OpenPage, recording: BattleRecording) -> None:
    page = open_page(recording)
    labels = [recording.scene.label(i) for i in range(5)]
    assert page.texts("#agents tbody td:first-child") == labels
    for step in range(0, recording.num_steps, 7):
        while step_of(page) < step:
            page.press("ArrowRight")
        assert actions_shown(page) == names_of(recording, step)
        offered = page.value("[...document.querySelectorAll('.strip')].map(e => e.getAttribute('aria-label'))")
        for agent, text in enumerate(offered):
            names = recording.scene.action_names(agent)
            available = [names[a] for a in np.flatnonzero(recording.available[step, agent])]
            assert text == "available: " + ", ".join(available)


@needs_browser
def test_a_medivac_heals_by_name(open_page: OpenPage) -> None:
    recording = play("MMM", "nearest")
    steps = np.flatnonzero(recording.actions[:, 9] >= 6)
    step = int(steps[0]) if len(steps) else 0
    page = open_page(recording, f"#{step}")
    assert actions_shown(page) == names_of(recording, step)
    if len(steps):
        assert actions_shown(page)[9].startswith("heal Mar")


@needs_browser
def test_pointing_at_units_shows_their_numbers(open_page: OpenPage, recording: BattleRecording) -> None:
    page = open_page(recording)
    west, south, east, north = recording.scene.view
    for unit in (0, 4, 7):
        across = (recording.x[0, unit] - west) / (east - west)
        down = (north - recording.y[0, unit]) / (north - south)
        page.point(*page.place("#field", across, down))
        assert recording.scene.label(unit) in page.text("#unit h2")
        place = re.search(r"Position([\d.]+), ([\d.]+)", page.text("#unit"))
        assert place is not None
        expected = recording.x[0, unit], recording.y[0, unit]
        np.testing.assert_allclose(np.array(place.groups(), float), expected, atol=0.0051)
        assert f"{recording.health[0, unit]:.1f} / {recording.scene.health_max[unit]:.0f}" in page.text("#unit")
    page.point(*page.place("h1"))
    assert "Point at a unit" in page.text("#unit")
    # A click keeps the unit, in the table, too; another click lets it go.
    page.click(*page.place("#field", across, down))
    page.point(*page.place("h1"))
    assert recording.scene.label(7) in page.text("#unit h2")
    page.click(*page.place("#agents tbody tr:nth-child(2) button"))
    page.point(*page.place("h1"))
    assert page.text("#unit h2") == "Stalker 1 · agent 1"
    assert page.value("[...document.querySelectorAll('#agents button')].map(b => b.ariaPressed)")[1] == "true"
    page.press("End")
    fell = int(np.argmax(recording.health[:, 1] <= 0))
    expected = f"in step {fell}" if recording.health[-1, 1] <= 0 else "Cooldown"
    assert expected in page.text("#unit")


@needs_browser
def test_series_have_charts_only_where_they_are_recorded(
    open_page: OpenPage, recording: BattleRecording, matched: BattleRecording
) -> None:
    page = open_page(recording)
    assert page.value("[...document.querySelectorAll('figure')].map(f => f.id)") == ["reward-chart"]
    page = open_page(matched, "#20,2")
    assert page.text("#unit h2") == "Zealot 2 · agent 2"
    figures = page.value("[...document.querySelectorAll('figure')].map(f => f.id)")
    assert figures == ["reward-chart", "matching-reward-chart", "action-probability-chart"]
    assert page.value("document.querySelectorAll('#matching-reward-chart path').length") == 5
    table = [float(text.replace("−", "-")) for text in page.texts("#agents tbody td:nth-child(4)")]
    np.testing.assert_allclose(table, matched.series["matching_reward"][20], atol=0.006)
    for agent in (2, 4):
        value = matched.series["matching_reward"][20, agent]
        assert page.text("#matching-reward-chart figcaption span") == f"Zealot {agent}: {value:.3f}".replace("-", "−")
        page.point(*page.place("#agents tbody tr:nth-child(5)"))
    returns = f"reward {matched.rewards[20]:.2f} · return {matched.rewards[:20].sum():.2f}"
    assert page.text("#reward-chart figcaption span") == returns


@needs_browser
def test_the_battlefield_is_drawn(open_page: OpenPage, recording: BattleRecording, tmp_path: Path) -> None:
    def field(page: Page) -> np.ndarray:
        page.settle()
        box = page.value(
            "(b => [b.x, b.y, b.right, b.bottom])(document.getElementById('field').getBoundingClientRect())"
        )
        (tmp_path / "page.png").write_bytes(page.screenshot())
        with Image.open(tmp_path / "page.png") as image:
            return np.asarray(image.convert("RGB").crop(tuple(map(round, box)))).astype(np.int16)

    def share(picture: np.ndarray, strong: int, weak: int) -> float:
        return float((picture[..., strong] - picture[..., weak] > 90).mean())

    pictures = {}
    page = open_page(play("3m", "nearest"))
    wide = field(page)
    page.click(*page.place("#close-up"))
    near = field(page)
    page.press("Home")
    page.press("c")
    assert share(near, 2, 0) > 1.2 * share(wide, 2, 0)
    assert np.abs(field(page) - wide).mean() < 0.5
    for dark in (False, True):
        page = open_page(recording, dark=dark)
        first = field(page)
        assert share(first, 2, 0) > 0.003 and share(first, 0, 2) > 0.003  # blue agents, orange enemies
        page.press("End")
        last = field(page)
        assert (first != last).any() and share(last, 0, 2) < share(first, 0, 2)
        pictures[dark] = first
    assert pictures[False].mean() > 150 > 80 > pictures[True].mean()


@needs_browser
@pytest.mark.parametrize("width", [360, 768, 1440])
def test_it_fits_every_screen(open_page: OpenPage, matched: BattleRecording, width: int) -> None:
    page = open_page(matched, width=width, height=800, pixels=2)
    assert page.value("document.documentElement.scrollWidth") <= width
    outside = page.value(
        "[...document.querySelectorAll('.controls > *, #field, figure, section')].filter(e => e.checkVisibility())"
        ".filter(e => { const b = e.getBoundingClientRect(); return b.left < 0 || b.right > innerWidth + 1; })"
        ".map(e => e.outerHTML.slice(0, 60))"
    )
    assert outside == []
    assert page.value("document.getElementById('field').width / document.getElementById('field').clientWidth") == 2


@needs_browser
def test_everything_has_a_name(open_page: OpenPage, matched: BattleRecording) -> None:
    """What a screen reader is told of the controls and pictures."""
    page = open_page(matched)
    page.call("Accessibility.enable")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = ("button", "slider", "combobox", "image", "img")
    named = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if not n.get("ignored")]
    controls = [(role, name) for role, name in named if role in roles]
    assert {"Play", "One step back", "One step forward", "Time in steps"} <= {name for _, name in controls}
    assert [role for role, name in controls if not name.strip()] == []


@needs_browser
def test_a_battle_without_steps_is_a_page(open_page: OpenPage) -> None:
    battles = BattleVector("3m", 1)
    recorder = BattleRecorder(battles)
    battles.reset()
    recorder.begin()
    page = open_page(recorder.recording)
    assert step_of(page) == 0 and "Unfinished" in page.text("#outcome")
    page.click(*page.place("#play"))
    page.press("ArrowRight")
    assert step_of(page) == 0
