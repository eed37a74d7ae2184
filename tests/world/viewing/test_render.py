"""Pictures and films: what they show, and that other programs can read them."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support.maps import EVERY_MAP
from support.recorded_battles import record_battle

from dm2_ray.world import BattleVector, load_map
from dm2_ray.world.engine_settings import EngineSettings
from dm2_ray.world.maps.map_spec import MapSpec
from dm2_ray.world.unit_kinds import kind_names
from dm2_ray.world.viewing.animation import Animation
from dm2_ray.world.viewing.battle_recording import BattleRecording
from dm2_ray.world.viewing.frame import LONG_AGO, FrameState
from dm2_ray.world.viewing.glyphs import GLYPHS, TEAM_COLORS
from dm2_ray.world.viewing.painter import Painter
from dm2_ray.world.viewing.render import draw, write_gif, write_mp4
from dm2_ray.world.viewing.scene import Scene

SIZE = 640


def start(spec: MapSpec) -> FrameState:
    """Everybody unhurt, in two rows on the ground, nobody aiming at anybody."""
    scene = Scene.from_map(spec)
    xs, ys = np.nonzero(scene.ground)
    places = np.linspace(0, len(xs) - 1, scene.num_units).astype(int)
    return FrameState(
        x=xs[places] + 0.5,
        y=ys[places] + 0.5,
        health=scene.health_max,
        shield=scene.shield_max,
        energy=scene.energy_max / 2,
        cooldown=np.zeros(scene.num_units),
        target=np.full(scene.num_units, -1),
        dead_loops=np.full(scene.num_units, LONG_AGO),
    )


def changed(frame: FrameState, name: str, unit: int, value: float) -> FrameState:
    column = np.array(getattr(frame, name))
    column[unit] = value
    return dataclasses.replace(frame, **{name: column})


class Canvas:
    """Pictures of one map, and where its units are on them."""

    def __init__(self, map_name: str = "2s3z") -> None:
        self.scene = Scene.from_map(load_map(map_name))
        self.painter = Painter(self.scene, SIZE)
        west, south, east, north = self.scene.view
        self.scale = self.painter.width / (east - west)

    def picture(self, frame: FrameState) -> NDArray[np.int16]:
        return np.asarray(self.painter.paint(frame)).astype(np.int16)

    def distance_to(self, frame: FrameState, unit: int) -> NDArray[np.float64]:
        """[h, w] in map cells."""
        west, _, _, north = self.scene.view
        x = west + (np.arange(self.painter.width) + 0.5) / self.scale
        y = north - (np.arange(self.painter.height) + 0.5) / self.scale
        return np.hypot(x[None, :] - frame.x[unit], y[:, None] - frame.y[unit])


@pytest.fixture(scope="module")
def canvas() -> Canvas:
    return Canvas()


@pytest.fixture(scope="module")
def frame() -> FrameState:
    return start(load_map("2s3z"))


@pytest.mark.parametrize("map_name", EVERY_MAP)
def test_every_map_can_be_drawn(map_name: str) -> None:
    spec = load_map(map_name)
    frame = start(spec)
    scene = Scene.from_map(spec)
    painter = Painter(scene, 320)
    picture = np.asarray(painter.paint(frame))
    assert max(picture.shape) in range(318, 323) and picture.shape[0] % 2 == picture.shape[1] % 2 == 0
    assert (picture.std((0, 1)) > 5).all()
    # Both teams are there, in about the area that their discs have.
    blue = (picture[..., 2].astype(int) - picture[..., 0] > 90).sum()
    orange = (picture[..., 0].astype(int) - picture[..., 2] > 90).sum()
    assert blue > 0 and orange > 0


def test_draw_takes_what_battles_give() -> None:
    battles = BattleVector("3s_vs_3z", 2, engine=EngineSettings(shuffle_enemies=False))
    battles.reset()
    frame = draw(battles.map_spec, battles.units(), 1)
    assert frame.dtype == np.uint8 and frame.shape == (640, 640, 3)
    assert draw(battles.map_spec, battles.units(), 1, size=200).shape == (200, 200, 3)
    np.testing.assert_array_equal(frame, draw(battles.map_spec, battles.units(), 0))
    with pytest.raises(ValueError, match="size is 10"):
        draw(battles.map_spec, battles.units(), size=10)


def test_north_is_up_and_east_is_right(canvas: Canvas, frame: FrameState) -> None:
    empty = canvas.picture(dataclasses.replace(frame, x=frame.x + 1000))

    def center(x: float, y: float) -> tuple[float, float]:
        one = changed(changed(dataclasses.replace(frame, x=frame.x + 1000), "x", 0, x), "y", 0, y)
        rows, columns = np.nonzero((canvas.picture(one) != empty).any(-1))
        return float(columns.mean()), float(rows.mean())

    (left, middle), (right, _), (_, top) = center(8, 16), center(20, 16), center(8, 20)
    assert right - left == pytest.approx(12 * canvas.scale, abs=1.0)
    assert middle - top == pytest.approx(4 * canvas.scale, abs=1.0)


def test_moving_a_unit_changes_only_the_pixels_around_it(canvas: Canvas, frame: FrameState) -> None:
    moved = changed(frame, "x", 2, frame.x[2] + 0.7)
    differs = (canvas.picture(frame) != canvas.picture(moved)).any(-1)
    reach = canvas.scene.radius[2] + 0.4
    near = (canvas.distance_to(frame, 2) < reach) | (canvas.distance_to(moved, 2) < reach)
    assert differs.any() and not differs[~near].any()


@pytest.mark.parametrize(
    ("name", "unit", "value"),
    [("health", 0, 20.0), ("shield", 0, 20.0), ("cooldown", 0, 12.0), ("health", 7, 1.0), ("health", 7, 0.0)],
)
def test_what_a_unit_has_shows_on_it(canvas: Canvas, frame: FrameState, name: str, unit: int, value: float) -> None:
    differs = (canvas.picture(frame) != canvas.picture(changed(frame, name, unit, value))).any(-1)
    distance = canvas.distance_to(frame, unit)
    assert differs.sum() > 10
    assert distance[differs].max() < canvas.scene.radius[unit] + 0.4


def test_medivacs_show_their_energy() -> None:
    canvas, frame = Canvas("MMM"), start(load_map("MMM"))
    differs = (canvas.picture(frame) != canvas.picture(changed(frame, "energy", 9, 5.0))).any(-1)
    assert differs.sum() > 10 and canvas.distance_to(frame, 9)[differs].max() < canvas.scene.radius[9] + 0.4


def test_the_dead_are_faint_and_stay_where_they_fell(canvas: Canvas, frame: FrameState) -> None:
    unit = 8
    disc = canvas.distance_to(frame, unit) < canvas.scene.radius[unit]
    ground = canvas.picture(changed(frame, "x", unit, 1000.0))
    alive = np.abs(canvas.picture(frame) - ground)[disc].sum()
    dead = changed(frame, "health", unit, 0.0)
    freshly_dead = changed(dead, "dead_loops", unit, 0.0)
    fainter = [np.abs(canvas.picture(m) - ground)[disc].sum() for m in (freshly_dead, dead)]
    assert 0 < fainter[1] < fainter[0] < alive and fainter[1] < alive / 4


def test_teams_have_colors_of_their_own(canvas: Canvas, frame: FrameState) -> None:
    picture = canvas.picture(frame)
    for unit in range(canvas.scene.num_units):
        disc = picture[canvas.distance_to(frame, unit) < 0.8 * canvas.scene.radius[unit]]
        distances = [np.abs(disc - color).sum(-1) for color in TEAM_COLORS]
        ours, theirs = distances if unit < 5 else reversed(distances)
        assert (ours < 60).mean() > 0.3 and (theirs < 60).sum() == 0
    # Told apart without color, too.
    lightness = [np.dot(color, (0.299, 0.587, 0.114)) for color in TEAM_COLORS]
    assert abs(lightness[0] - lightness[1]) > 20


def test_every_kind_has_a_sign_of_its_own() -> None:
    assert set(GLYPHS) == set(kind_names())
    assert len(set(GLYPHS.values())) == len(GLYPHS)
    for polygons in GLYPHS.values():
        assert all(x * x + y * y <= 1 for polygon in polygons for x, y in polygon)


def test_lines_lead_to_targets_and_flash_when_a_shot_is_fired(canvas: Canvas, frame: FrameState) -> None:
    west, _, _, north = canvas.scene.view
    shooter, target = 0, 9
    middle_x, middle_y = (frame.x[shooter] + frame.x[target]) / 2, (frame.y[shooter] + frame.y[target]) / 2
    column, row = round((middle_x - west) * canvas.scale), round((north - middle_y) * canvas.scale)
    around = (slice(row - 2, row + 3), slice(column - 2, column + 3))
    aiming = changed(frame, "target", shooter, target)
    firing = changed(aiming, "cooldown", shooter, canvas.scene.weapon_period[shooter])
    plain, aimed, fired = (canvas.picture(m)[around].max(axis=(0, 1)).sum() for m in (frame, aiming, firing))
    assert plain < aimed < fired


def test_a_picture_is_fast() -> None:
    """At most 8 ms at 640 pixels with 20 units; 1.5 ms where this was written."""
    spec = load_map("MMM")
    frame, painter = start(spec), Painter(Scene.from_map(spec), 640)
    times = []
    for step in range(30):
        hurt = dataclasses.replace(frame, health=frame.health * (1 - step / 40), x=frame.x + step / 40)
        begin = time.process_time()
        painter.paint(hurt)
        times.append(time.process_time() - begin)
    assert np.median(times) < 0.008


# Films.


@pytest.fixture(scope="module")
def recording() -> BattleRecording:
    return record_battle("2s3z", "kite")


def seconds(recording: BattleRecording, speed: float = 1.0) -> float:
    return recording.num_steps * 8 / 22.4 / speed


def test_a_gif_can_be_read_and_is_small(recording: BattleRecording, tmp_path: Path) -> None:
    path = tmp_path / "films" / "battle.gif"
    write_gif(Animation(recording), path)
    assert [entry.name for entry in path.parent.iterdir()] == ["battle.gif"]
    assert path.stat().st_size / recording.num_steps < 1_500_000 / 60
    with Image.open(path) as image:
        film = Animation(recording)
        assert image.size == film.size and max(image.size) in (480, 482)
        assert image.info["loop"] == 0
        duration, frames = 0, []
        for index in range(image.n_frames):
            image.seek(index)
            duration += image.info["duration"]
            frames.append(np.asarray(image.convert("RGB")).astype(np.int16))
    assert duration / 1000 == pytest.approx(seconds(recording) + 2.0, abs=0.3)
    assert len(frames) > recording.num_steps
    # What is read back is what was drawn, but for the palette.
    for index in (0, len(frames) // 2):
        drawn = np.asarray(list(film)[index]).astype(np.int16)
        assert np.abs(frames[index] - drawn).mean() < 3
        assert frames[index].std() > 10
    assert all((before != after).any() for before, after in zip(frames, frames[1:], strict=False))


@pytest.mark.cli
def test_an_mp4_can_be_read(recording: BattleRecording, tmp_path: Path) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    path = tmp_path / "battle.mp4"
    write_mp4(Animation(recording, fps=20, speed=4, size=320, hold_s=0.5), path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["battle.mp4"]
    reader = imageio_ffmpeg.read_frames(str(path))
    information = next(reader)
    film = Animation(recording, fps=20, speed=4, size=320, hold_s=0.5)
    assert tuple(information["size"]) == film.size and information["fps"] == 20
    width, height = film.size
    frames = [np.frombuffer(frame, np.uint8).reshape(height, width, 3).astype(np.int16) for frame in reader]
    assert len(frames) == len(film)
    assert len(frames) / 20 == pytest.approx(seconds(recording, 4) + 0.5, abs=0.1)
    for index in (0, len(frames) // 2, len(frames) - 1):
        drawn = np.asarray(list(film)[index]).astype(np.int16)
        assert np.abs(frames[index] - drawn).mean() < 4 and frames[index].std() > 10


@pytest.mark.cli
def test_without_imageio_ffmpeg_one_line_says_what_to_do(recording: BattleRecording, tmp_path: Path) -> None:
    (tmp_path / "recording.json").write_text(recording.to_json())
    code = (
        "import sys; sys.modules['imageio_ffmpeg'] = None\n"
        "from dm2_ray.world.viewing.battle_recording import BattleRecording\n"
        "from dm2_ray.world.viewing.animation import Animation\n"
        "from dm2_ray.world.viewing.render import write_mp4\n"
        "write_mp4(Animation(BattleRecording.from_json(open('recording.json').read())), 'film.mp4')\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "MissingPackageError: MP4 files need the package imageio-ffmpeg: pip install" in run.stderr.splitlines()[-1]
    assert not (tmp_path / "film.mp4").exists()


def test_a_close_up_shows_everybody_larger() -> None:
    recording = record_battle("3m", "nearest")
    wide, close = Animation(recording, size=320), Animation(recording, size=320, close_up=True)
    pictures = [np.asarray(list(film)[-1]).astype(np.int16) for film in (wide, close)]
    blue = [(picture[..., 2] - picture[..., 0] > 90).sum() for picture in pictures]
    assert blue[1] > 1.2 * blue[0] and max(close.size) == max(wide.size)


@pytest.mark.parametrize("wrong", [{"fps": 0}, {"speed": 0.0}, {"size": 3}, {"hold_s": -1.0}])
def test_films_refuse_impossible_numbers(recording: BattleRecording, wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        Animation(recording, **wrong)  # type: ignore[arg-type]
