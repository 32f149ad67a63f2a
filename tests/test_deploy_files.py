"""The examples of `deploy/`, checked by the tools that will read them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml
from sqlalchemy import Engine, text

from lungnode import cli
from lungnode.pulse import PROGRAMS
from lungnode.settings import load_settings
from tests.nodes import stop, wait_for
from tests.orthanc import free_port

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
TOOLS = Path(sys.executable).parent  # where the lock's programs are
COMMANDS = typer.main.get_command(cli.build()).commands  # type: ignore[attr-defined]
PASSWORDS = {"POSTGRES_PASSWORD": "one", "GRAFANA_PASSWORD": "two"}


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_every_variable_of_the_example_is_a_setting_and_has_a_value_that_can_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = re.findall(r"^#?(LUNGNODE_\w+)=(.*)$", (DEPLOY / "env.example").read_text(), re.MULTILINE)
    for name in os.environ:
        if name.startswith("LUNGNODE_"):
            monkeypatch.delenv(name)
    for name, value in found:
        monkeypatch.setenv(name, value)

    settings = load_settings()

    assert len(found) > 5
    assert str(settings.receiver.networks[0]) == "10.0.0.0/8"
    assert settings.database.startswith("postgresql://lungnode:password@")


def test_the_example_sets_nothing_that_was_not_chosen() -> None:
    assert not re.search(r"^LUNGNODE_", (DEPLOY / "env.example").read_text(), re.MULTILINE)


@pytest.mark.parametrize("file", ["lungnode.toml", "compose.toml", "kubernetes/base/lungnode.toml"])
@pytest.mark.parametrize("comments", [True, False])
def test_an_example_of_settings_can_be_read_and_so_can_what_it_has_in_comments(
    file: str, comments: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text_of_it = (DEPLOY / file).read_text()
    if comments:
        text_of_it = re.sub(r"^# (?=\[|\w+ = )", "", text_of_it, flags=re.MULTILINE)
    (tmp_path / "lungnode.toml").write_text(text_of_it)
    for name in os.environ:
        if name.startswith("LUNGNODE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LUNGNODE_CONFIG", str(tmp_path / "lungnode.toml"))

    settings = load_settings()

    assert settings.destinations or not comments


def test_the_dockerfile_passes_hadolint() -> None:
    run(TOOLS / "hadolint", DEPLOY / "Dockerfile")


def test_every_target_of_the_image_has_a_command_and_a_health_check_of_ours() -> None:
    stages = re.split(r"^FROM ", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    roles = {stage.split()[2]: stage for stage in stages if stage.startswith("lungnode AS ")}

    assert set(roles) == {"receive", "clerk", "web", "delivery", "analysis", "up"}
    for stage in roles.values():
        assert re.search(r'^CMD \["(\w+)"', stage, re.MULTILINE)[1] in COMMANDS  # type: ignore[index]
        assert re.search(r'"lungnode-health", "([\w-]+)"', stage)[1] in PROGRAMS  # type: ignore[index]


def test_the_image_gets_what_a_wheel_needs_and_nothing_else() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    names = {name for line in copied for name in line.replace("${LOCK}", "requirements.txt").split()}

    assert "*" in ignored
    for name in names:
        assert (ROOT / name).exists()
        assert f"!{name}" in ignored or (name.startswith("requirements") and "!requirements*.txt" in ignored)


@pytest.fixture(scope="module")
def composed() -> Any:
    """What Docker Compose makes of the example."""
    file = DEPLOY / "compose.yaml"
    return yaml.safe_load(
        run(TOOLS / "docker-compose", "--file", file, "--profile", "*", "config", **PASSWORDS)
    )


def test_compose_reads_its_example(composed: Any) -> None:
    assert set(composed["services"]) == {
        *("receive", "clerk", "web", "analysis", "delivery", "backup"),
        *("postgres", "redis", "orthanc", "prometheus", "grafana"),
    }


def test_compose_refuses_to_run_without_passwords() -> None:
    done = subprocess.run(
        [TOOLS / "docker-compose", "--file", DEPLOY / "compose.yaml", "config"],
        env={name: value for name, value in os.environ.items() if name not in PASSWORDS},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode != 0
    assert "put it into deploy/.env" in done.stderr


def test_every_container_of_ours_is_confined_and_only_scanners_reach_one_from_outside(composed: Any) -> None:
    for name in ("receive", "clerk", "web", "analysis", "delivery", "backup"):
        service = composed["services"][name]
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    for name, service in composed["services"].items():
        for port in service.get("ports", ()):
            assert name == "receive" or port["host_ip"] == "127.0.0.1"


def test_the_receiver_knows_no_password(composed: Any) -> None:
    assert list(composed["services"]["receive"]["environment"]) == ["LUNGNODE_CONFIG"]


def test_every_file_that_compose_mounts_is_there(composed: Any) -> None:
    mounts = [mount for service in composed["services"].values() for mount in service.get("volumes", ())]

    assert all(Path(mount["source"]).exists() for mount in mounts if mount["type"] == "bind")


needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is absent")


def rendered(folder: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(run("kubectl", "kustomize", folder)))


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    """An overlay of somebody's own: the base, GPUs, KEDA, and an object store."""
    where = {name: os.path.relpath(DEPLOY / "kubernetes" / name, tmp_path) for name in ("gpu", "keda", "s3")}
    overlay = {
        "resources": [where["gpu"]],
        "components": [where["keda"], where["s3"]],
        "namespace": "lungnode",
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    return tmp_path


@needs_kubectl
@pytest.mark.parametrize("version", ["1.30", "1.34"])
def test_what_kustomize_renders_is_what_kubernetes_accepts(everything: Path, version: str) -> None:
    resources = rendered(everything)
    own = [each for each in resources if not each["apiVersion"].startswith("keda.sh/")]

    assert len(own) > 15
    for resource in own:
        kubernetes_validate.validate(resource, version, strict=True)


@needs_kubectl
def test_every_pod_is_confined_and_looked_after(everything: Path) -> None:
    for resource in rendered(everything):
        if resource["kind"] not in ("Deployment", "StatefulSet"):
            continue
        pod = resource["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert {"startupProbe", "livenessProbe"} <= set(container)
            assert container["args"][0] in COMMANDS
            assert container["image"].startswith("registry.example.org/lungnode:")


@needs_kubectl
def test_with_an_object_store_whoever_reads_it_has_a_disk_for_copies(everything: Path) -> None:
    readers = [each for each in rendered(everything) if each["kind"] == "Deployment"]

    assert len(readers) > 3
    for reader in readers:
        (container,) = reader["spec"]["template"]["spec"]["containers"]
        copies = {each["mountPath"] for each in container["volumeMounts"] if each["name"] == "copies"}
        assert copies == {"/data/cache/archive", "/data/cache/outputs"}


@needs_kubectl
def test_every_workload_has_a_budget_and_every_budget_a_workload(everything: Path) -> None:
    resources = rendered(everything)
    workloads = {
        each["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]
        for each in resources
        if each["kind"] in ("Deployment", "StatefulSet")
    }
    budgets = {
        each["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]
        for each in resources
        if each["kind"] == "PodDisruptionBudget"
    }

    assert workloads == budgets


@needs_kubectl
def test_a_clerk_without_its_database_takes_no_receiver_from_the_scanners(everything: Path) -> None:
    (intake,) = (each for each in rendered(everything) if each["kind"] == "StatefulSet")
    receive, clerk = intake["spec"]["template"]["spec"]["containers"]

    assert "readinessProbe" in receive
    assert "envFrom" not in receive
    assert "readinessProbe" not in clerk


def test_what_keda_asks_the_database_it_answers(engine: Engine) -> None:
    if engine.dialect.name != "postgresql":
        pytest.skip("KEDA asks PostgreSQL")
    resources = yaml.safe_load_all((DEPLOY / "kubernetes/keda/scaling.yaml").read_text())
    triggers = [each for it in resources if it["kind"] == "ScaledObject" for each in it["spec"]["triggers"]]

    assert len(triggers) == 2
    with engine.connect() as connection:
        for trigger in triggers:
            assert connection.scalar(text(trigger["metadata"]["query"])) == 0


@pytest.mark.skipif(shutil.which("Orthanc") is None, reason="Orthanc is absent: apt install orthanc")
def test_orthanc_reads_its_example(tmp_path: Path) -> None:
    config = (DEPLOY / "orthanc/orthanc.json").read_text()
    dicom, http = free_port(), free_port()
    for old, new in {"/var/lib/orthanc/db": str(tmp_path), "4242": str(dicom), "8042": str(http)}.items():
        config = config.replace(old, new)
    (tmp_path / "orthanc.json").write_text(config)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(["Orthanc", tmp_path / "orthanc.json"], stdout=log, stderr=log)
    try:
        called = ["echoscu", "-aec", "ORTHANC", "127.0.0.1", str(dicom)]
        wait_for(
            lambda: subprocess.run(called, capture_output=True, check=False).returncode == 0,
            what="Orthanc",
        )
    finally:
        stop(process)
