"""Published results: the packaged file, its errors, and the bands."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dm2_ray.config.documents import variant_names
from dm2_ray.config.errors import ConfigError
from dm2_ray.experiments.published_results import PACKAGED, AtMost, Reaches, load_published_results
from dm2_ray.world import map_names


def at_most(win_rate: float, until: int) -> AtMost:
    return AtMost(map="3m", algorithm="ippo", win_rate=win_rate, until=until, why="")


def reaches(win_rate: float, earliest: int, latest: int) -> Reaches:
    return Reaches(map="3m", algorithm="ippo", win_rate=win_rate, earliest=earliest, latest=latest, why="")


# The packaged file.


def test_the_packaged_curves_are_of_known_maps_and_variants_and_increase_in_env_steps() -> None:
    published = load_published_results()
    assert len(published.curves) == 27
    for entry in (*published.curves, *published.finals, *published.bands):
        assert entry.map in map_names()
        assert entry.algorithm in (*variant_names(), "qmix")
    for curve in published.curves:
        assert all(left < right for left, right in pairwise(curve.env_steps))
        assert max(curve.env_steps) <= 10_000_000
    assert {source.game.startswith("real StarCraft II") for source in published.sources.values()} == {True}


def test_values_of_the_paper() -> None:
    published = load_published_results()
    ippo = published.curve("5m_vs_6m", "ippo")
    assert ippo is not None and (ippo.win_rate_at(4_000_000), ippo.win_rate_at(10_000_000)) == (0.05, 0.52)
    assert ippo.win_rate_at(4_500_000) == pytest.approx(0.085)
    assert ippo.win_rate_at(10_000_001) is None
    assert published.curve("MMM2", "ippo") is None
    assert {final.win_rate for final in published.finals_of("5m_vs_6m", "mappo")} == {0.891, 0.75}
    assert [str(band) for band in published.bands_of("5m_vs_6m", "ippo")] == [
        "at most 0.2 until 2 M", "at most 0.5 until 4 M",
    ]  # fmt: skip
    assert [str(band) for band in published.bands_of("3s_vs_3z", "ippo")] == ["reaches 0.5 between 1.5 and 4 M"]
    assert [str(band) for band in published.bands_of("8m_vs_9m", "mappo")] == ["reaches 0.5 by 10 M"]


@pytest.mark.parametrize("band", load_published_results().bands, ids=lambda band: f"{band.map}-{band.algorithm}-{band}")
def test_published_curves_are_in_their_own_bands(band: Any) -> None:
    published = load_published_results()
    curve = published.curve(band.map, band.algorithm)
    if curve is None:
        assert any(final.win_rate >= band.win_rate for final in published.finals_of(band.map, band.algorithm))
    else:
        assert band.verdict(curve.env_steps, curve.win_rates) == "yes"


# Its errors.


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("until: 2e6", "untill: 2e6", "bands.0.until is missing"),
        ("kind: at_most", "kind: atmost", "bands.0.kind must be at_most or reaches"),
        ("win_rates: [0.00, 0.00", "win_rates: [0.00, 1.50", "curves.0.win_rates.1 must be at most 1.0, got 1.5"),
        ("win_rates: [0.00, 0.00, ", "win_rates: [0.00, ", "curves.0 must have env_steps and win_rates of the same"),
        ("[1e6, 1.5e6, 2e6", "[1e6, 2.5e6, 2e6", "curves.0 must have env_steps that increase"),
        ("earliest: 1.5e6", "earliest: 5e6", "bands.2 must have earliest that is less than latest"),
        ("algorithm: ippo, source: dm2", "algorithm: ippo, source: dm3", "curves.0.source must be one of dm2, "),
        ("algorithm: mappo, source: di_engine", "algorithm: ippo, source: di_engine", " repeats finals."),
        ("    env_steps: [1e7, 1e7]\n", "", "sources.pymarl2.env_steps is missing"),
        ("    seeds: 5", "    seedz: 5", "unknown key sources.dm2.seedz"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_with_its_line(tmp_path: Path, old: str, new: str, problem: str) -> None:
    text = PACKAGED.read_text()
    assert old in text
    file = tmp_path / "published.yaml"
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError) as error:
        load_published_results(file)
    message = str(error.value)
    assert message.startswith(f"{file}, line ") and problem in message and "\n" not in message


# Bands.


@pytest.mark.parametrize(
    ("curve", "verdict"),
    [
        ([(100, 0.2), (200, 0.2)], "yes"),
        ([(100, 0.2), (199, 0.2)], "not reached yet"),
        ([(100, 0.21)], "no"),
        ([(200, 0.21)], "no"),
        ([(100, 0.0), (201, 0.9)], "yes"),
        ([], "not reached yet"),
    ],
)
def test_at_most(curve: list[tuple[int, float]], verdict: str) -> None:
    assert at_most(0.2, 200).verdict([steps for steps, _ in curve], [rate for _, rate in curve]) == verdict


@pytest.mark.parametrize(
    ("curve", "verdict"),
    [
        ([(100, 0.0), (200, 0.5)], "yes"),
        ([(100, 0.0), (140, 0.5)], "no"),  # too early
        ([(100, 0.5)], "no"),
        ([(100, 0.0), (400, 0.5)], "yes"),
        ([(200, 0.0), (401, 0.49)], "no"),  # too late
        ([(200, 0.0), (300, 0.49)], "not reached yet"),
        ([(200, 0.0), (1000, 0.8)], "no"),  # 0.5 at 700
        ([(200, 0.6), (300, 0.1)], "yes"),  # what counts is the first time
        ([], "not reached yet"),
    ],
)
def test_reaches_between(curve: list[tuple[int, float]], verdict: str) -> None:
    band = reaches(0.5, 150, 400)
    assert band.verdict([steps for steps, _ in curve], [rate for _, rate in curve]) == verdict


CURVES = st.lists(st.tuples(st.integers(1, 100), st.floats(0, 1)), max_size=30).map(
    lambda points: (
        [sum(length for length, _ in points[: end + 1]) for end in range(len(points))],
        [rate for _, rate in points],
    )
)
BANDS = st.one_of(
    st.builds(at_most, st.floats(0, 1), st.integers(1, 2000)),
    st.builds(
        lambda rate, first, more: reaches(rate, first, first + more),
        st.floats(0.01, 1), st.integers(0, 1000), st.integers(1, 1000),
    ),
)  # fmt: skip


@given(CURVES, BANDS)
def test_a_verdict_does_not_change_when_the_run_goes_on(curve: tuple[list[int], list[float]], band: Any) -> None:
    steps, rates = curve
    verdicts = [band.verdict(steps[:end], rates[:end]) for end in range(len(steps) + 1)]
    assert verdicts[0] == "not reached yet"
    for before, after in pairwise(verdicts):
        assert before in (after, "not reached yet")
    if steps and steps[-1] >= band.horizon:
        assert verdicts[-1] != "not reached yet"


@given(CURVES, st.floats(0.01, 1), st.integers(1, 2000))
def test_what_reaches_a_rate_in_time_does_not_stay_below_it(
    curve: tuple[list[int], list[float]], rate: float, by: int
) -> None:
    reached = reaches(rate, 0, by).verdict(*curve)
    if at_most(rate, by).verdict(*curve) == "no":
        assert reached == "yes"
