import zlib
from pathlib import Path

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from daemon.clerk.header import read_header
from daemon.clerk.inflate import check_inflated_size
from lungnode.errors import UnusableError
from tests.spooling import ct, write


@pytest.fixture
def deflated(tmp_path: Path) -> Path:
    """A deflated data set of 4 MB in some kilobytes."""
    write(ct(PixelData=bytes(4_000_000)), tmp_path / "a.dcm", DeflatedExplicitVRLittleEndian)
    return tmp_path / "a.dcm"


def test_a_deflated_data_set_within_the_limit_is_read(deflated: Path) -> None:
    check_inflated_size(deflated, 4_100_000)

    assert read_header(deflated).instance_number == 1


def test_a_deflated_data_set_beyond_the_limit_is_unusable(deflated: Path) -> None:
    assert deflated.stat().st_size < 20_000

    with pytest.raises(UnusableError, match="larger than 3999999 bytes"):
        check_inflated_size(deflated, 3_999_999)


def test_a_deflated_data_set_with_damaged_bytes_is_unusable(deflated: Path) -> None:
    content = bytearray(deflated.read_bytes())
    content[400:] = b"\xff" * (len(content) - 400)
    deflated.write_bytes(content)

    with pytest.raises(UnusableError, match="cannot be parsed"):
        read_header(deflated)


def test_a_bomb_behind_the_data_set_is_found_too(deflated: Path) -> None:
    head = deflated.read_bytes()[:144]
    length = int.from_bytes(head[140:144], "little")
    squeezer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = squeezer.compress(bytes(30_000_000)) + squeezer.flush()
    deflated.write_bytes(deflated.read_bytes()[: 144 + length] + bomb)

    with pytest.raises(UnusableError, match="larger than"):
        check_inflated_size(deflated, 29_000_000)
