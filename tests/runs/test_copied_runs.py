"""A run that is copied elsewhere during training, and resumed from its copy on another machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.drivers import address, driver, train_command
from support.tiny_runs import lines, problems, records

from dm2_ray.checkpoints import intact_checkpoints
from dm2_ray.cli import main


def copied_manifests(place: Path) -> list[str]:
    return sorted(path.parent.name for path in place.glob("checkpoints/*/manifest.json"))


def test_a_run_is_resumed_from_its_copy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["evaluation.every_env_steps=150", "tracking.wandb=offline"]
    assert main(train_command(tmp_path / "undisturbed", 8, *settings)) == 0
    copies = tmp_path / "copies"
    assert main(train_command(tmp_path / "run", 5, *settings, f"checkpoint.uri=file://{copies}")) == 0
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert copied_manifests(copies / "run") == kept
    assert len(kept) == 4  # the newest checkpoint.keep, and the best, which was evaluated earlier
    for name in ("config.yaml", "generation.json", "metrics.jsonl", "summary.json", "wandb_run_id"):
        assert (copies / "run" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()
    # The newest of the copies is damaged, and the machine that made them is gone.
    (copies / "run" / "checkpoints" / "iteration_000005" / "agent_1.pt").write_bytes(b"damaged")
    shutil.rmtree(tmp_path / "run")
    here = tmp_path / "here"
    capsys.readouterr()
    assert main(["resume", f"file://{copies}/run", "--run-dir", str(here), "--iterations", "8", *address()]) == 0
    out, err = capsys.readouterr()
    assert f"downloaded to {here}" in err and "at iteration 4" in err
    assert "agent_1.pt of iteration_000005 was altered" in err and "iteration_000004 is used" in err
    assert len(problems(err)) == 1
    assert records(here) == records(tmp_path / "undisturbed")
    assert kept[0] in {found.path.name for found in intact_checkpoints(here / "checkpoints")}  # the best one, too
    # It is copied to the same location again, under its first name.
    assert [path.name for path in copies.iterdir()] == ["run"]
    assert copied_manifests(copies / "run") == sorted(path.name for path in (here / "checkpoints").iterdir())
    assert (copies / "run" / "metrics.jsonl").read_bytes() == (here / "metrics.jsonl").read_bytes()
    assert json.loads((copies / "run" / "generation.json").read_text())["number"] == 2
    # Neither a second download into the same directory nor another run under the same name is possible.
    assert main(["resume", f"file://{copies}/run", "--run-dir", str(here)]) == 2
    assert "already contains a run" in capsys.readouterr().err
    assert main(train_command(tmp_path / "run", 5, f"checkpoint.uri=file://{copies}")) == 2
    assert "choose another --run-dir or checkpoint.uri" in capsys.readouterr().err
    assert (copies / "run" / "metrics.jsonl").read_bytes() == (here / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("uri", ["strange://bucket/runs", "file:///proc/runs"])
def test_with_an_unusable_location_nothing_is_started(
    uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train_command(tmp_path / "run", 5, f"checkpoint.uri={uri}")) == 2
    out, err = capsys.readouterr()
    assert f"{uri} cannot be used" in err and err.count("\n") == 1
    assert out == "" and not (tmp_path / "run").exists()
    assert main(["resume", f"file://{tmp_path}/nothing"]) == 2
    assert "contains no run" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.timeout(200)
def test_a_failed_copy_is_repeated(tmp_path: Path) -> None:
    run, copies = tmp_path / "run", tmp_path / "copies"
    with driver(*train_command(run, 100_000, f"checkpoint.uri=file://{copies}")) as process:
        process.wait_for(run, 3)
        # For a while, a file is in the way of the copies.
        os.rename(copies, tmp_path / "away")
        copies.write_text("in the way")
        process.wait_for(run, len(lines(run)) + 5)
        copies.unlink()
        deadline = time.monotonic() + 60
        while not copied_manifests(copies / "run"):
            assert process.is_alive and time.monotonic() < deadline
            time.sleep(0.05)
        process.send(signal.SIGTERM)
        code, _, err = process.end()
    assert code == 130
    assert "copy not updated" in err and "retried with the next checkpoint" in err
    kept = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert copied_manifests(copies / "run") == kept
    assert (copies / "run" / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Starts an S3 server with a bucket `bucket`; returns the query part of its URIs."""
    pytest.importorskip("moto.server", reason="an S3 server to test with is missing: pip install 'moto[s3,server]'")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)
        for name, value in (("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")):
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        query = f"?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
        from pyarrow.fs import FileSystem

        FileSystem.from_uri(f"s3://bucket{query}&allow_bucket_creation=true")[0].create_dir("bucket")
        yield query
    finally:
        server.kill()
        server.wait()


@pytest.mark.long
@pytest.mark.timeout(200)
def test_a_run_is_resumed_from_its_copy_in_s3(s3: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(train_command(tmp_path / "undisturbed", 8)) == 0
    assert main(train_command(tmp_path / "run", 5, f"checkpoint.uri=s3://bucket/runs{s3}")) == 0
    capsys.readouterr()
    here = tmp_path / "here"
    assert main(["resume", f"s3://bucket/runs/run{s3}", "--run-dir", str(here), "--iterations", "8", *address()]) == 0
    assert problems(capsys.readouterr().err) == []
    assert records(here) == records(tmp_path / "undisturbed")
    again = tmp_path / "again"
    assert main(["resume", f"s3://bucket/runs/run{s3}", "--run-dir", str(again), "--iterations", "9", *address()]) == 0
    assert records(again)[:8] == records(here)
    assert main(train_command(tmp_path / "other", 5, f"checkpoint.uri=s3://nobucket/runs{s3}")) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "nobucket" in err
