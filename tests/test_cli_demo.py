import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from lungnode.phantom import phantom_study
from tests.nodes import children, variables, wait_for
from tests.nodes import command as command_of


@pytest.mark.timeout(280)
def test_the_demo_tells_its_story_and_leaves_a_heatmap_and_nothing_else(tmp_path: Path) -> None:
    study = phantom_study(tmp_path / "study", slices=16, size=256)
    # A setting of the operator's, which the demo must not touch.
    environment = {"TMPDIR": str(tmp_path), "LUNGNODE_DATABASE_URL": "postgresql://127.0.0.1:1/production"}

    done = subprocess.run(
        command_of(tmp_path / "unused", "demo", "--study", str(tmp_path / "study")),
        env=variables(environment),
        capture_output=True,
        text=True,
        timeout=270,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert f"Received   {len(study.paths)} instances" in done.stdout
    assert re.search(r"Decided    (positive|negative): probability 0\.\d{3}", done.stdout)
    assert re.search(r"Took       .*predict \d+\.\d s", done.stdout)
    assert "Finding: COVID-19" in done.stdout
    heatmap = Path(re.search(r"A heatmap  (\S+\.png)", done.stdout)[1])  # type: ignore[index]
    with Image.open(heatmap) as picture:
        assert picture.size == (256, 256)
    assert [path.name for path in heatmap.parent.iterdir()] == ["heatmap.png"]
    assert not (tmp_path / "unused").exists()


def test_a_folder_without_a_dicom_file_ends_the_demo_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    done = subprocess.run(
        command_of(tmp_path / "unused", "demo", "--study", str(tmp_path / "empty")),
        env=variables({"TMPDIR": str(tmp_path)}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.endswith("lungnode: There is no DICOM file to send.\n")
    (folder,) = tmp_path.glob("lungnode-demo-*")
    assert [path.name for path in folder.iterdir()] == ["node.log"]


@pytest.fixture
def _interrupts() -> Iterator[None]:
    """Let children hear Ctrl-C, also where a script in the background runs the tests, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interrupts")
def test_ctrl_c_stops_the_demo_and_leaves_nothing_behind(tmp_path: Path) -> None:
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    temporary.mkdir()
    arguments = command_of(tmp_path / "unused", "demo")

    with subprocess.Popen(arguments, env=variables({"TMPDIR": str(temporary), "HOME": str(home)})) as demo:
        wait_for(lambda: any(temporary.glob("*/node/receiver.json")), limit_s=60, what="the node")
        family = list(children(demo.pid))
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) != 0

    assert len(family) == 2
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]
    assert list(temporary.iterdir()) == []
    assert not home.exists()
