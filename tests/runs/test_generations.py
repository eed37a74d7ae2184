"""Only one driver at a time writes a run, and a superseded driver writes nothing more."""

import json
import signal
import time
from pathlib import Path

import pytest
from support.drivers import address, driver, train_command
from support.tiny_runs import lines, problems, records

from dm2_ray.cli import main


def content(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


def test_one_driver_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, copies = tmp_path / "run", tmp_path / "copies"
    with driver(*train_command(run, 100_000, f"checkpoint.uri=file://{copies}")) as first:
        first.wait_for(run, 2)
        # A second driver is refused while the first is alive.
        capsys.readouterr()
        assert main(["resume", str(run), *address()]) == 2
        out, err = capsys.readouterr()
        generation = json.loads((run / "generation.json").read_text())
        assert f"{run} is being trained by generation 1 (process {generation['pid']} on {generation['host']}" in err
        assert (out, err.count("\n")) == ("", 1)
        first.wait_for(run, len(lines(run)) + 2)
        # As with two machines on a file system without locks, of which the first loses its connection and comes back.
        first.send(signal.SIGSTOP)
        (run / "run.lock").unlink()
        done = len(lines(run))
        assert main(["resume", str(run), "--iterations", str(done + 3)]) == 0
        assert [record["iteration"] for record in records(run)] == list(range(1, done + 4))
        before, copied = content(run), content(copies)
        assert b'"number": 2' in before["generation.json"]
        first.send(signal.SIGCONT)
        code, _, err = first.end(60)
    assert code == 3
    assert len(problems(err)) == 1 and "generation 2" in err and "has taken over this run" in err
    assert content(run) == before
    assert content(copies) == copied


@pytest.mark.long
@pytest.mark.timeout(120)
def test_a_driver_learns_from_the_copy_that_the_run_was_resumed_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with two machines that share only the location of the copies."""
    run, copies = tmp_path / "run", tmp_path / "copies"
    with driver(*train_command(run, 100_000, f"checkpoint.uri=file://{copies}")) as zombie:
        deadline = time.monotonic() + 60
        while not list(copies.glob("run/checkpoints/*/manifest.json")):
            assert time.monotonic() < deadline and zombie.is_alive
            time.sleep(0.02)
        zombie.send(signal.SIGSTOP)
        assert (
            main(["resume", f"file://{copies}/run", "--run-dir", str(tmp_path / "elsewhere"), "--iterations", "40"])
            == 0
        )
        copied = content(copies)
        assert json.loads(copied["run/generation.json"])["number"] == 2
        zombie.send(signal.SIGCONT)
        code, _, err = zombie.end(60)
    assert code == 3 and "generation 2" in err
    assert content(copies) == copied
    # Nor can the first machine resume its run as if nothing had happened.
    capsys.readouterr()
    assert main(["resume", str(run), "--iterations", "100001", *address()]) == 2
    err = capsys.readouterr().err
    assert len(problems(err)) == 1 and f"dm2 resume file://{copies}/run" in err
