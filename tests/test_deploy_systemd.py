"""The units, checked by systemd itself as `deploy/systemd/install` lays them out."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from lungnode import cli

ROOT = Path(__file__).resolve().parents[1]
UNITS = ROOT / "deploy/systemd"
EXECUTABLE = "/opt/lungnode/current/bin/lungnode"
MOST_EXPOSED = 15  # tenths of `systemd-analyze security`, where 100 is unprotected
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is absent: apt install systemd"
)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units in a folder of their own, with a program that exists."""
    program = tmp_path / "lungnode"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    units = tmp_path / "units"
    units.mkdir()
    for path in (*UNITS.glob("*.service"), *UNITS.glob("*.target"), *UNITS.glob("*.timer")):
        (units / path.name).write_text(path.read_text().replace(EXECUTABLE, str(program)))
    for folder in ("lungnode.service.d", "lungnode-.service.d"):
        (units / folder).mkdir()
        shutil.copy(UNITS / "hardening.conf", units / folder)
    return units


def analyze(units: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["systemd-analyze", *arguments],
        env={"SYSTEMD_UNIT_PATH": f"{units}:", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@needs_systemd
@pytest.mark.parametrize("unit", [*SERVICES, "lungnode.target", "lungnode-backup.timer"])
def test_systemd_finds_nothing_wrong_with_a_unit(installed: Path, unit: str) -> None:
    done = analyze(installed, "verify", "--man=no", "--recursive-errors=no", str(installed / unit))

    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("dropin", ["", "port-104.conf", "gpu.conf"])
def test_systemd_finds_a_service_well_protected(installed: Path, dropin: str) -> None:
    if dropin:
        shutil.copy(UNITS / "dropins" / dropin, installed / "lungnode.service.d")
    for unit in SERVICES:
        most = MOST_EXPOSED + (10 if dropin and unit == "lungnode.service" else 0)
        options = ("--offline=true", f"--threshold={most}", "--no-pager")

        done = analyze(installed, "security", *options, str(installed / unit))

        assert done.returncode == 0, done.stdout.splitlines()[-1:]


@pytest.mark.parametrize("unit", SERVICES)
def test_a_unit_starts_a_command_that_there_is(unit: str) -> None:
    found = re.findall(rf"^ExecStart={EXECUTABLE} (\w+)", (UNITS / unit).read_text(), re.MULTILINE)
    known = typer.main.get_command(cli.build()).commands  # type: ignore[attr-defined]

    assert len(found) == 1
    assert found[0] in known


@pytest.mark.parametrize("script", ["install", "lungnode"])
def test_a_shell_finds_nothing_wrong_with_a_script(script: str) -> None:
    checker = Path(sys.executable).with_name("shellcheck")

    done = subprocess.run([checker, UNITS / script], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


def test_what_the_wrapper_exports_is_each_line_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "lungnode.env").write_text(
        '# LUNGNODE_NOT=this\n\nLUNGNODE_RECEIVER__NETWORKS=["10.0.0.0/8"]\nLUNGNODE_DATABASE_URL=a$b "c"=d\n'
        "PATH=/nowhere\n"
    )
    text = (UNITS / "lungnode").read_text()
    text = re.sub(r"if \[ .*?\nfi\n", "", text, flags=re.DOTALL)  # it need not become another user here
    text = text.replace("/etc/lungnode/lungnode.env", str(tmp_path / "lungnode.env"))
    text = text.replace(f"exec {EXECUTABLE}", "exec env")

    found = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=True).stdout.splitlines()

    assert 'LUNGNODE_RECEIVER__NETWORKS=["10.0.0.0/8"]' in found
    assert 'LUNGNODE_DATABASE_URL=a$b "c"=d' in found
    assert not [line for line in found if line.startswith(("LUNGNODE_NOT", "PATH=/nowhere"))]
