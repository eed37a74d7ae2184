"""The window of render_mode "human", on SDL's dummy screen."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest

from dm2_ray.world import BattleVector, ScriptedTeam
from dm2_ray.world.viewing.viewer import Window


@pytest.fixture
def pygame(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    pygame = pytest.importorskip("pygame")
    yield pygame
    pygame.display.quit()


@pytest.fixture
def battles() -> BattleVector:
    battles = BattleVector("3m", 1, seed=2)
    battles.reset()
    return battles


def advance(battles: BattleVector, steps: int = 1) -> None:
    team = ScriptedTeam("nearest", battles)
    for _ in range(steps):
        battles.step(team.act(battles))


def pixels(pygame: ModuleType) -> np.ndarray:
    return pygame.surfarray.array3d(pygame.display.get_surface()).astype(np.int16)


def test_a_window_shows_battles_at_the_games_pace(pygame: ModuleType, battles: BattleVector) -> None:
    window = Window(battles.map_spec, size=400, speed=4)
    assert pygame.display.get_surface().get_size() == (400, 212) and "3m" in pygame.display.get_caption()[0]
    window.show(battles.units())
    before = pixels(pygame)
    assert before.std() > 5
    advance(battles, 4)
    begin = time.monotonic()
    window.show(battles.units())
    assert time.monotonic() - begin >= 8 / 22.4 / 4 - 0.01
    assert (pixels(pygame) != before).any()
    window.close()
    window.close()


def test_closing_the_window_does_not_stop_the_program(pygame: ModuleType, battles: BattleVector) -> None:
    for event in (
        pygame.event.Event(pygame.QUIT),
        pygame.event.Event(pygame.KEYDOWN, key=pygame.K_ESCAPE),
    ):
        window = Window(battles.map_spec, size=200, speed=0)
        window.show(battles.units())
        assert window.is_open
        pygame.event.post(event)
        window.show(battles.units())
        assert not window.is_open
        advance(battles)
        window.show(battles.units())
        assert not window.is_open


def test_another_battle_begins_at_once(pygame: ModuleType, battles: BattleVector) -> None:
    """Nobody glides back from where the last battle ended."""
    window = Window(battles.map_spec, size=200, speed=0.5)
    team = ScriptedTeam("nearest", battles)
    window.show(battles.units())
    first = pixels(pygame)
    while battles.battle_number[0] == 0:
        battles.step(team.act(battles))
        last_of_all = battles.final_units()
    window.show(last_of_all)
    assert (pixels(pygame) != first).any()
    begin = time.monotonic()
    window.show(battles.units())
    assert time.monotonic() - begin < 0.5 * 8 / 22.4 / 0.5
    np.testing.assert_array_equal(pixels(pygame), first)
    window.close()


@pytest.mark.cli
def test_without_a_screen_or_pygame_one_line_says_so() -> None:
    pytest.importorskip("pygame")
    code = """
import os, sys
from dm2_ray.world.maps.registry import load_map
from dm2_ray.world.viewing.viewer import Window

def complaint():
    try:
        Window(load_map("3m"))
    except Exception as error:
        print(f"{type(error).__name__}: {error}")

complaint()
os.environ["SDL_VIDEODRIVER"] = "x11"
complaint()
sys.modules["pygame"] = None
complaint()
"""
    screens = ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY")
    environment = {name: value for name, value in os.environ.items() if name not in screens}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    without, asked_for, no_package = run.stdout.splitlines()
    for line in (without, asked_for):
        assert line.startswith("NoDisplayError: no window can be opened") and "rgb_array" in line
    assert no_package.startswith("MissingPackageError: ") and "pip install 'dm2-ray[view]'" in no_package


def test_impossible_speeds_are_refused(battles: BattleVector) -> None:
    with pytest.raises(ValueError, match="speed"):
        Window(battles.map_spec, speed=-1)
