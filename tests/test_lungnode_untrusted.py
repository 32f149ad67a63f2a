"""Bytes that claim to be more than they are."""

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless

from daemon.clerk.header import read_header
from daemon.clerk.inflate import check_inflated_size
from lungnode.decode import stored_values
from lungnode.errors import UnusableError
from lungnode.untrusted import BoundedFile, may_grow_to, plain
from tests.ct_images import compressed
from tests.spooling import ct, write

MIB = 1 << 20
# A Patient's Name, (0010,0010), with a VR whose length may be four billion.
CLAIM = b"\x10\x00\x10\x00UT\x00\x00\xf0\xff\xff\xff"


def test_a_file_gives_what_it_has_and_not_what_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789" * 2_000)

    with BoundedFile(tmp_path / "file") as file:
        assert file.read(4) == b"0123"
        assert len(file.read(1 << 40)) == 19_996
        assert file.read(1 << 40) == file.read(1) == b""
        file.seek(0)
        assert len(file.read()) == 20_000


@pytest.mark.parametrize("reader", ["read_header(path)", "read_instance(path, pixels=True)"])
def test_an_element_that_claims_four_gigabytes_takes_no_memory(tmp_path: Path, reader: str) -> None:
    path = tmp_path / "a.dcm"
    write(ct(PatientName=None), path)
    content = path.read_bytes()
    place = content.index(b"\x10\x00\x20\x00LO")  # Patient ID (0010,0020)
    path.write_bytes(content[:place] + CLAIM + content[place:])
    program = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from daemon.clerk.header import read_header\nfrom lungnode.loading import read_instance\n"
        "from lungnode.errors import UnusableError\npath = Path(sys.argv[1])\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({3_000 * MIB},) * 2)\n"
        f"try:\n    {reader}\nexcept UnusableError:\n    pass\n"
    )

    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (result.returncode, result.stderr) == (0, "")


def test_what_an_honest_file_grows_to_is_read_and_a_bomb_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    write(ct(PixelData=bytes(15 * MIB)), path, DeflatedExplicitVRLittleEndian)
    check_inflated_size(path)
    assert read_header(path).sop_instance_uid

    write(ct(PixelData=bytes(40 * MIB)), path, DeflatedExplicitVRLittleEndian)
    assert path.stat().st_size < MIB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnusableError, match="The deflated data set is larger than"):
        read_header(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024


def test_an_image_that_grows_as_no_scanner_s_does_is_not_decoded() -> None:
    image = compressed(np.zeros((64, 64), np.int16), JPEG2000Lossless, Rows=8_192, Columns=8_192)

    with pytest.raises(UnusableError, match=r"bytes of Pixel Data would grow to 134217728"):
        stored_values(image)


@pytest.mark.parametrize(("packed", "grown"), [(0, 16 * MIB), (100_000, 16 * MIB), (MIB, 100 * MIB)])
def test_what_may_grow(packed: int, grown: int) -> None:
    assert may_grow_to(packed) == grown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Doe^Jane ", "Doe^Jane"),
        ("\x1b]0;owned\x07\x1b[2J\x9b31mDoe\0\r\n", "]0;owned[2J31mDoe"),
        ("\ud800Doe", "?Doe"),
        ("山田^太郎", "山田^太郎"),
        (7, "7"),
    ],
)
def test_what_a_peer_wrote_is_plain_text(value: object, text: str) -> None:
    assert plain(value) == text
