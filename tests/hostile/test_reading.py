"""Damaged files and bombs, read by those who read what was received."""

import logging
import resource
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from daemon.receiver.file_meta import Origin, encode_file_meta
from lungnode.decode import stored_values
from lungnode.errors import UnusableError
from tests.ct_images import compressed
from tests.hostile.clerk import HONEST, index_damaged
from tests.hostile.datasets import seeds_from
from tests.hostile.reading import read_all
from tests.hostile.seeds import some_files
from tests.spooling import ClerkNode, slices, write

SEED = 1
MIB = 1 << 20
SYNTAXES = (JPEG2000Lossless, JPEGLSLossless, RLELossless)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> list[bytes]:
    return seeds_from(some_files(shared_data, tmp_path_factory.mktemp("seeds")))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Let pydicom not warn of damage, as it should otherwise."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_ends_as_an_image_or_as_one_sentence_in_time(
    tmp_path: Path, seeds: list[bytes]
) -> None:
    found = read_all(seeds, SEED, range(400), tmp_path / "a.dcm")

    assert found.problems == []
    assert (found.read, len(found.outcomes)) == (400, 3)


@pytest.mark.filterwarnings("ignore")
def test_a_clerk_puts_every_damaged_file_somewhere_and_an_honest_study_is_whole(
    tmp_path: Path, seeds: list[bytes]
) -> None:
    found = index_damaged(tmp_path, seeds, SEED, range(100))

    assert found["problems"] == []
    assert found["archived"] > 10
    assert found["quarantined"] > 10


@pytest.fixture(scope="module")
def deflated_bomb() -> bytes:
    """A file of 100 KB whose data set inflates to 100 MB."""
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = squeezer.compress(b"\xe0\x7f\x10\x00OB\0\0" + (100 * MIB).to_bytes(4, "little"))
    packed += b"".join(squeezer.compress(bytes(MIB)) for _ in range(100)) + squeezer.flush()
    head = encode_file_meta(b"1.2", b"1.2.3", DeflatedExplicitVRLittleEndian, Origin("HOSTILE", "LUNGNODE"))
    return head + packed


def pixel_bomb(syntax: UID, tail: bytes = b"") -> Dataset:
    """An image of some hundred bytes that claims to be 20,000 frames of 134 MB."""
    image = compressed(np.zeros((64, 64), np.uint16), syntax)
    image.Rows = image.Columns = 8_192
    image.NumberOfFrames = 20_000
    image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.3.4", "1.2.3.5"
    image.SOPInstanceUID = f"1.2.3.4.{SYNTAXES.index(syntax)}"
    image.PixelData = encapsulate([next(generate_frames(image.PixelData, number_of_frames=1)) + tail])
    return image


def test_bombs_are_set_aside_or_kept_as_they_are_and_hold_nobody_up(
    clerk_node: ClerkNode, deflated_bomb: bytes
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sender = clerk_node.sender("hostile")
    for _ in range(10):
        sender.put(lambda path: path.write_bytes(deflated_bomb))
    for syntax in SYNTAXES:
        # The same instance again, with other bytes: the clerk has to compare pixels.
        sender.put(lambda path, syntax=syntax: write(pixel_bomb(syntax), path, syntax))  # type: ignore[misc]
        sender.put(lambda path, syntax=syntax: write(pixel_bomb(syntax, b"\0\0"), path, syntax))  # type: ignore[misc]
    sender.release()

    clerk_node.receive(*slices(range(1, 4), HONEST), name="honest")

    assert len(clerk_node.studies()[HONEST].instances) == 3
    assert len(list(clerk_node.settings.quarantine.glob("*.dcm"))) == 10
    assert not list(clerk_node.settings.spool.glob("*/*.dcm"))
    hostile = clerk_node.studies()["1.2.3.4"].instances
    assert sum("would grow to" in instance.note for instance in hostile) == len(SYNTAXES)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_bomb_of_pixels_takes_no_memory_to_refuse(syntax: UID) -> None:
    image = pixel_bomb(syntax)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(UnusableError, match="bytes of Pixel Data would grow to 2684354560000"):
        stored_values(image)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024
