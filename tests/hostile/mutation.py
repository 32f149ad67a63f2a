"""Damage to bytes, drawn from a seed: the same seed, the same damage."""

import random
from collections.abc import Callable
from typing import Final

Chance = random.Random
_BYTES: Final = (0x00, 0x01, 0x02, 0x7F, 0x80, 0xFE, 0xFF)
_SHORTS: Final = (0, 1, 2, 5, 0x7F, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF)
_LONGS: Final = (0, 1, 7, 0xFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_LONGEST: Final = 4_096  # bytes that one damage adds or takes, at most


def chance_of(seed: int, number: int) -> Chance:
    """Return the chance of one case; it depends on nothing else."""
    return random.Random(f"{seed}-{number}")  # noqa: S311 - to be repeated, not to be secret


def damage(data: bytes, chance: Chance, times: int = 1) -> bytes:
    """Return `data` damaged in so many places."""
    for _ in range(times):
        data = chance.choice(_DAMAGES)(data, chance)
    return data


def _flip(data: bytes, chance: Chance) -> bytes:
    if not data:
        return data
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :]


def _overwrite(data: bytes, chance: Chance) -> bytes:
    """Put a number that breaks boundaries where maybe a length is."""
    size = chance.choice((1, 2, 4))
    value = chance.choice({1: _BYTES, 2: _SHORTS, 4: _LONGS}[size])
    place = chance.randrange(len(data) + 1)
    order = chance.choice(("little", "big"))
    return data[:place] + value.to_bytes(size, order) + data[place + size :]  # type: ignore[arg-type]


def _cut(data: bytes, chance: Chance) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _remove(data: bytes, chance: Chance) -> bytes:
    start, size = _piece(data, chance)
    return data[:start] + data[start + size :]


def _repeat(data: bytes, chance: Chance) -> bytes:
    start, size = _piece(data, chance)
    return data[: start + size] + data[start:]


def _insert(data: bytes, chance: Chance) -> bytes:
    place = chance.randrange(len(data) + 1)
    return data[:place] + chance.randbytes(chance.randrange(64)) + data[place:]


def _swap(data: bytes, chance: Chance) -> bytes:
    """Put one piece in the place of another."""
    start, size = _piece(data, chance)
    other, _ = _piece(data, chance)
    return data[:other] + data[start : start + size] + data[other + size :]


def _piece(data: bytes, chance: Chance) -> tuple[int, int]:
    return chance.randrange(len(data) + 1), chance.randrange(min(len(data), _LONGEST) + 1)


_DAMAGES: Final[tuple[Callable[[bytes, Chance], bytes], ...]] = (
    _flip,
    _flip,
    _overwrite,
    _overwrite,
    _cut,
    _remove,
    _repeat,
    _insert,
    _swap,
)
