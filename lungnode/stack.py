"""The decoded slices of one series, and which of them show lung: what worker and trainer look at alike."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from lungnode.errors import UnusableError
from lungnode.geometry import geometry
from lungnode.gray import Gray
from lungnode.lungs import Coverage, coverage
from lungnode.series import Candidate, SliceHeader

# Yields for each slice, in the order asked, its whole matrix in the lung window, or why there is none.
Reader = Callable[[Sequence[SliceHeader]], Iterator[Gray | UnusableError]]
# Told after each slice how many of how many are done; may raise to stop.
Proceed = Callable[[int, int], None]


@dataclass(frozen=True)
class Stack:
    """Decoded slices of one series, from top to bottom."""

    candidate: Candidate
    numbers: tuple[int, ...]  # of the slices among the candidate's
    grays: tuple[Gray, ...]
    failures: tuple[str, ...] = ()  # a sentence for each slice that could not be decoded

    @property
    def slices(self) -> tuple[SliceHeader, ...]:
        """Their headers."""
        return tuple(self.candidate.slices[number] for number in self.numbers)

    @property
    def positions_mm(self) -> tuple[float, ...]:
        """Where they lie along the slice normal; one a millimetre where the headers do not say."""
        positions = self.candidate.geometry.positions_mm
        return tuple(positions[number] if self.is_placed else -float(number) for number in self.numbers)

    @property
    def known_positions_mm(self) -> tuple[float, ...] | tuple[None, ...]:
        """The same; None for each where the headers do not say."""
        return self.positions_mm if self.is_placed else (None,) * len(self.numbers)

    @property
    def is_placed(self) -> bool:
        """Whether the headers say where the slices lie."""
        return bool(self.candidate.geometry.positions_mm)

    def of_lung(self, cover: Coverage) -> "Stack":
        """Return the slices from the first to the last that shows lung; all where none is seen."""
        if cover.first is None or cover.last is None:
            return self
        keep = slice(cover.first, cover.last + 1)
        return replace(self, numbers=self.numbers[keep], grays=self.grays[keep])


@dataclass
class Decoding:
    """The slices of a candidate, decoded in any order."""

    candidate: Candidate
    grays: dict[int, Gray] = field(default_factory=dict)  # by the slice's number among the candidate's
    failures: dict[int, str] = field(default_factory=dict)

    def decode(self, numbers: Sequence[int], read: Reader, proceed: Proceed) -> Iterator[int]:
        """Decode slices in this order, and name each when it is done.

        One that cannot be decoded is told, not raised.
        """
        slices = [self.candidate.slices[number] for number in numbers]
        for done, (number, gray) in enumerate(zip(numbers, read(slices), strict=True), start=1):
            if isinstance(gray, UnusableError):
                self.failures[number] = str(gray)
            else:
                self.grays[number] = gray
            proceed(done, len(numbers))
            yield number

    def stack(self) -> Stack:
        """Return what is decoded so far."""
        numbers = tuple(sorted(self.grays))
        failures = tuple(self.failures[number] for number in sorted(self.failures))
        return Stack(self.candidate, numbers, tuple(self.grays[number] for number in numbers), failures)


def decode_stack(candidate: Candidate, read: Reader, proceed: Proceed) -> Stack:
    """Decode all slices of a candidate; one that cannot be decoded is told, not raised."""
    decoding = Decoding(candidate)
    for _ in decoding.decode(range(len(candidate.slices)), read, proceed):
        pass
    return decoding.stack()


def cover_stack(stack: Stack) -> Coverage:
    """Find the slices of a stack, which has at least one, that show lung."""
    first = stack.candidate.slices[stack.numbers[0]]
    return coverage(
        stack.grays,
        first.spacing_mm[1] if first.spacing_mm else None,
        stack.candidate.geometry.spacing_mm,
        labelled_chest=stack.candidate.labelled_chest,
    )


def thinned(candidate: Candidate, count: int) -> Candidate:
    """Return a candidate of at most `count` slices, evenly spread over all of them."""
    step = -(-len(candidate.slices) // count)
    if step == 1:
        return candidate
    return replace(candidate, geometry=geometry(candidate.slices[::step]))
