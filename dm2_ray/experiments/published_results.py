"""Published win rates on the real game and the bands that are derived from them: data/published_results.yaml.

The keys of the file are documented here; `load_published_results` reads and checks it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from dm2_ray.config.documents import read_document
from dm2_ray.config.errors import ConfigError, format_validation_error
from dm2_ray.config.schema import Section
from dm2_ray.experiments.learning_curve import first_reaching

PACKAGED = Path(__file__).parent / "data/published_results.yaml"

Verdict = Literal["yes", "no", "not reached yet"]
"""Whether a curve is in a band; not reached yet: the curve is too short to tell."""

WinRate = Annotated[float, Field(ge=0, le=1)]
EnvSteps = Annotated[int, Field(ge=1)]


class Source(Section):
    """Where published numbers come from."""

    title: str
    url: str
    game: str
    """What was played, and by whose learners."""
    note: str
    """How the numbers were read, and how far to trust them."""
    seeds: int | None = Field(None, ge=1)
    """Runs behind each number; null if unknown."""
    tolerance: float | None = Field(None, gt=0)
    """How exactly the win rates were read."""
    env_steps: Annotated[tuple[EnvSteps, EnvSteps], Field(strict=False)] | None = None
    """Of final win rates: least and most env steps of the runs."""

    @property
    def budget(self) -> str:
        """The env steps of its final win rates, for tables: "2 to 10 M"."""
        assert self.env_steps is not None
        low, high = (f"{steps / 1e6:g}" for steps in self.env_steps)
        return f"{high} M" if low == high else f"{low} to {high} M"


class Entry(Section):
    """What all entries say."""

    map: str
    algorithm: str
    """Name of the variant of this package that does the same, or qmix."""


class PublishedEntry(Entry):
    """Published numbers."""

    source: str
    """Name of one of the sources."""
    condition: str | None = None
    """What distinguishes it from others of the same algorithm."""


class PublishedCurve(PublishedEntry):
    """A learning curve: greedy win rates at env steps."""

    env_steps: Annotated[tuple[EnvSteps, ...], Field(strict=False, min_length=1)]
    win_rates: Annotated[tuple[WinRate, ...], Field(strict=False)]

    @model_validator(mode="after")
    def _check_points(self) -> PublishedCurve:
        if len(self.env_steps) != len(self.win_rates):
            raise ValueError("env_steps and win_rates of the same length")
        if any(left >= right for left, right in pairwise(self.env_steps)):
            raise ValueError("env_steps that increase")
        return self

    def win_rate_at(self, env_steps: float) -> float | None:
        """Win rate after so many env steps, interpolated from 0 at the start; None beyond the end of the curve."""
        points = [(0, 0.0), *zip(self.env_steps, self.win_rates, strict=True)]
        for (left, before), (right, after) in pairwise(points):
            if env_steps <= right:
                return before + (after - before) * (env_steps - left) / (right - left)
        return None


class PublishedFinal(PublishedEntry):
    """A win rate at the end of training; the source says after how many env steps."""

    win_rate: WinRate


class AtMost(Entry):
    """The win rate does not exceed `win_rate` until so many env steps."""

    kind: Literal["at_most"] = "at_most"
    win_rate: WinRate
    until: EnvSteps
    why: str

    @property
    def horizon(self) -> int:
        """Env steps after which a curve decides."""
        return self.until

    def __str__(self) -> str:
        return f"at most {self.win_rate:g} until {self.until / 1e6:g} M"

    def verdict(self, env_steps: Sequence[float], win_rates: Sequence[float]) -> Verdict:
        """Whether a curve is in the band."""
        if any(rate > self.win_rate for steps, rate in zip(env_steps, win_rates, strict=True) if steps <= self.until):
            return "no"
        return "yes" if env_steps and env_steps[-1] >= self.until else "not reached yet"


class Reaches(Entry):
    """The win rate first reaches `win_rate` between `earliest` and `latest` env steps, both included."""

    kind: Literal["reaches"] = "reaches"
    win_rate: float = Field(gt=0, le=1)
    earliest: int = Field(0, ge=0)
    latest: EnvSteps
    why: str

    @model_validator(mode="after")
    def _check_order(self) -> Reaches:
        if self.earliest >= self.latest:
            raise ValueError("earliest that is less than latest")
        return self

    @property
    def horizon(self) -> int:
        """Env steps after which a curve decides."""
        return self.latest

    def __str__(self) -> str:
        if self.earliest == 0:
            return f"reaches {self.win_rate:g} by {self.latest / 1e6:g} M"
        return f"reaches {self.win_rate:g} between {self.earliest / 1e6:g} and {self.latest / 1e6:g} M"

    def verdict(self, env_steps: Sequence[float], win_rates: Sequence[float]) -> Verdict:
        """Whether a curve is in the band."""
        reached = first_reaching(env_steps, win_rates, self.win_rate)
        if reached is not None:
            return "yes" if self.earliest <= reached <= self.latest else "no"
        return "no" if env_steps and env_steps[-1] >= self.latest else "not reached yet"


Band = AtMost | Reaches


class PublishedResults(Section):
    """The content of the file."""

    sources: dict[str, Source]
    curves: Annotated[tuple[PublishedCurve, ...], Field(strict=False)]
    finals: Annotated[tuple[PublishedFinal, ...], Field(strict=False)]
    bands: Annotated[tuple[Annotated[Band, Field(discriminator="kind")], ...], Field(strict=False)]

    @property
    def maps(self) -> tuple[str, ...]:
        """Maps with any published value, in the order of the file."""
        entries: tuple[PublishedEntry, ...] = (*self.curves, *self.finals)
        return tuple(dict.fromkeys(entry.map for entry in entries))

    def curve(self, map_name: str, algorithm: str) -> PublishedCurve | None:
        """The learning curve of an algorithm without further conditions, if there is one."""
        return next(
            (
                curve
                for curve in self.curves
                if (curve.map, curve.algorithm, curve.condition) == (map_name, algorithm, None)
            ),
            None,
        )

    def finals_of(self, map_name: str, algorithm: str) -> tuple[PublishedFinal, ...]:
        """Final win rates of all implementations of an algorithm."""
        return tuple(final for final in self.finals if (final.map, final.algorithm) == (map_name, algorithm))

    def bands_of(self, map_name: str, algorithm: str) -> tuple[Band, ...]:
        """The bands of an algorithm on a map."""
        return tuple(band for band in self.bands if (band.map, band.algorithm) == (map_name, algorithm))


@cache
def load_published_results(path: Path = PACKAGED) -> PublishedResults:
    """Reads and checks the packaged file, or another one.

    Raises:
        ConfigError: One line with the line of the file, the key, and what is expected.
    """
    name = str(path.relative_to(PACKAGED.parents[1])) if path == PACKAGED else str(path)
    document = read_document(path, name)

    def error_at(keys: tuple[str, ...], problem: str) -> ConfigError:
        known = keys
        while known and known not in document.lines:
            known = known[:-1]
        line = f", line {document.lines[known]}" if known else ""
        return ConfigError(f"{name}{line}: {problem}")

    try:
        results = PublishedResults.model_validate(document.values)
    except ValidationError as refusal:
        error = refusal.errors(include_url=False)[0]
        # The kind of a band is part of pydantic's path to a key, but not of the file's.
        keys = tuple(str(part) for part in error["loc"] if part not in ("at_most", "reaches"))
        if error["type"].startswith("union_tag"):
            raise error_at(keys, f"{'.'.join(keys)}.kind must be at_most or reaches") from None
        if error["type"] == "value_error":
            raise error_at(keys, f"{'.'.join(keys)} must have {error['ctx']['error']}") from None
        raise error_at(keys, format_validation_error({**error, "loc": keys}, PublishedResults)) from None
    _check_sources(results, error_at)
    return results


def _check_sources(results: PublishedResults, error_at: Callable[[tuple[str, ...], str], ConfigError]) -> None:
    """Refuses unknown sources, final win rates without env steps, and what one source says twice."""
    sections: dict[str, tuple[PublishedEntry, ...]] = {"curves": results.curves, "finals": results.finals}
    for section, entries in sections.items():
        first: dict[tuple[str | None, ...], int] = {}
        for index, entry in enumerate(entries):
            keys = (section, str(index))
            name = f"{section}.{index}"
            if entry.source not in results.sources:
                known = ", ".join(results.sources)
                raise error_at(keys, f"{name}.source must be one of {known}, got {entry.source!r}")
            if section == "finals" and results.sources[entry.source].env_steps is None:
                raise error_at(keys, f"sources.{entry.source}.env_steps is missing: {name} needs it")
            identity = (entry.map, entry.algorithm, entry.condition, entry.source)
            if identity in first:
                raise error_at(keys, f"{name} repeats {section}.{first[identity]}")
            first[identity] = index
