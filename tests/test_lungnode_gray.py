"""JPEG and PNG pictures: every kind a person may upload becomes gray, or a reason."""

import random
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from PIL import Image

from lungnode.errors import UnusableError
from lungnode.gray import Gray, read_image

EXIF_ORIENTATION: Final = 0x0112
ROTATE_TO_THE_RIGHT: Final = 6  # "the 0th row is the visual right": turn by 90 degrees clockwise to show


def ramp() -> Gray:
    return np.add.outer(np.arange(0, 96, dtype=np.uint8), np.arange(0, 128, dtype=np.uint8))


def noise() -> Gray:
    return np.random.default_rng(0).integers(0, 255, (96, 128), np.uint8)


def saved(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def test_a_gray_png_is_read_as_it_is() -> None:
    assert np.array_equal(read_image(saved(Image.fromarray(ramp()))), ramp())


def test_a_gray_jpeg_is_read_nearly_as_it_was() -> None:
    read = read_image(saved(Image.fromarray(ramp()), "JPEG", quality=95))

    assert np.abs(read.astype(int) - ramp()).max() <= 4


def test_colour_becomes_luma() -> None:
    colour = np.zeros((64, 64, 3), np.uint8)
    colour[..., 0], colour[..., 1], colour[..., 2] = 200, 100, 50

    # Source: ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B.
    assert (read_image(saved(Image.fromarray(colour))) == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)).all()


def test_a_palette_is_looked_up() -> None:
    picture = Image.fromarray(ramp() // 64 * 64).quantize(4)

    assert set(np.unique(read_image(saved(picture)))) == {0, 64, 128, 192}


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_becomes_black(mode: str) -> None:
    picture = Image.fromarray(ramp() // 2 + 100).convert(mode)
    opaque = np.zeros((96, 128), np.uint8)
    opaque[:, :64] = 255
    picture.putalpha(Image.fromarray(opaque))

    read = read_image(saved(picture))

    assert (read[:, 64:] == 0).all()
    assert np.array_equal(read[:, :64], (ramp() // 2 + 100)[:, :64])


def test_a_transparent_palette_colour_becomes_black() -> None:
    picture = Image.new("P", (64, 64), 1)
    picture.putpalette([255, 255, 255, 80, 80, 80])
    picture.paste(0, (0, 0, 64, 32))

    read = read_image(saved(picture, transparency=0))

    assert (read[:32] == 0).all()
    assert (read[32:] == 80).all()


def test_one_bit_a_pixel_is_black_and_white() -> None:
    assert set(np.unique(read_image(saved(Image.fromarray(ramp() > 100))))) == {0, 255}


def test_cmyk_is_read_as_gray() -> None:
    read = read_image(saved(Image.fromarray(ramp()).convert("RGB").convert("CMYK"), "JPEG", quality=95))

    assert np.abs(read.astype(int) - ramp()).max() <= 6


def test_a_photograph_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = ROTATE_TO_THE_RIGHT

    read = read_image(saved(Image.fromarray(ramp()), "JPEG", quality=95, exif=exif))

    assert read.shape == (128, 96)
    assert np.abs(read.astype(int) - np.rot90(ramp(), -1)).max() <= 4


def png_16_bit_colour() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"\x12\x34" * 3 * 64 for _ in range(64))
    header = struct.pack(">IIBBBBB", 64, 64, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def png_claiming(columns: int, rows: int) -> bytes:
    whole = bytearray(saved(Image.fromarray(ramp())))
    whole[16:24] = struct.pack(">II", columns, rows)
    whole[29:33] = struct.pack(">I", zlib.crc32(whole[12:29]))
    return bytes(whole)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "neither JPEG nor PNG: it starts with nothing"),
        (b"probability 0.5\n", "neither JPEG nor PNG"),
        (saved(Image.fromarray(ramp()), "BMP"), "neither JPEG nor PNG"),
        (saved(Image.fromarray(ramp().astype(np.uint16) * 200)), "16 bits a sample"),
        (png_16_bit_colour(), "16 bits a sample"),
        (png_claiming(8_000, 8_000), "8000 x 8000 pixels; at most 50,000,000"),
        (png_claiming(10_000, 10_000), "10000 x 10000 pixels; at most 50,000,000"),
        (png_claiming(20_000, 20_000), "at most 50,000,000 pixels are read: .*400000000"),
        (png_claiming(2**31 - 1, 2**31 - 1), "at most 50,000,000 pixels are read"),
        (saved(Image.fromarray(ramp()[:8, :8])), "8 x 8 pixels; each side needs at least 32"),
        (saved(Image.fromarray(noise()))[:4000], "damaged or truncated"),
        (saved(Image.fromarray(ramp()), "JPEG")[:700], "damaged or truncated"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(UnusableError, match=reason):
        read_image(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_damaged_pictures_raise_nothing_but_a_reason(kind: str) -> None:
    whole = saved(Image.fromarray(ramp()), kind)
    for seed in range(200):
        rng = random.Random(seed)  # noqa: S311 - a seed, not a secret
        damaged = bytearray(whole[: rng.randrange(8, len(whole)) if seed % 2 else len(whole)])
        for _ in range(rng.randint(1, 8)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            read_image(bytes(damaged))
        except UnusableError as error:
            assert str(error).endswith(".")  # noqa: PT017 - reading it is as good


def test_every_picture_of_the_data_sets_is_read(shared_data: Path) -> None:
    pictures = (
        sorted((shared_data / "covid-ct").glob("*/*"))[::20]
        + sorted((shared_data / "luna16").glob("*"))[::50]
    )

    assert len(pictures) > 30
    assert all(read_image(path.read_bytes()).ndim == 2 for path in pictures)
