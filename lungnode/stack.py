"""The decoded slices of one series, and which of them show lung: what worker and trainer look at alike."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lungnode.errors import UnusableError
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
    slices: tuple[SliceHeader, ...]
    grays: tuple[Gray, ...]
    positions_mm: tuple[float, ...]
    failures: tuple[str, ...] = ()  # a sentence for each slice that could not be decoded

    def of_lung(self, cover: Coverage) -> "Stack":
        """Return the slices from the first to the last that shows lung; all where none is seen."""
        if cover.first is None or cover.last is None:
            return self
        keep = slice(cover.first, cover.last + 1)
        return Stack(
            self.candidate, self.slices[keep], self.grays[keep], self.positions_mm[keep], self.failures
        )


def decode_stack(candidate: Candidate, read: Reader, proceed: Proceed) -> Stack:
    """Decode all slices of a candidate; one that cannot be decoded is told, not raised."""
    kept, failures = [], []
    total = len(candidate.slices)
    for index, gray in enumerate(read(candidate.slices)):
        if isinstance(gray, UnusableError):
            failures.append(str(gray))
        else:
            kept.append((index, gray))
        proceed(index + 1, total)
    positions = candidate.geometry.positions_mm or tuple(-float(index) for index in range(total))
    return Stack(
        candidate,
        tuple(candidate.slices[index] for index, _ in kept),
        tuple(gray for _, gray in kept),
        tuple(positions[index] for index, _ in kept),
        tuple(failures),
    )


def cover_stack(stack: Stack) -> Coverage:
    """Find the slices of a stack, which has at least one, that show lung."""
    spacing = stack.slices[0].spacing_mm
    return coverage(
        stack.grays,
        spacing[1] if spacing else None,
        stack.candidate.geometry.spacing_mm,
        labelled_chest=stack.candidate.labelled_chest,
    )
