"""The lung slices of a study, chosen as a worker does."""

from lungnode.errors import UnusableError
from lungnode.loading import Images, read_grays
from lungnode.series import choose
from lungnode.stack import Stack, cover_stack, decode_stack


def lung_stack(images: Images) -> Stack:
    """Return the lung slices of the series that a worker would analyse.

    Raises:
        UnusableError: No series shows a chest, or none can be decoded.
        UnavailableError: A file is away.
    """
    if not images.headers and images.unreadable:
        raise UnusableError(images.unreadable[0])
    choice = choose(images.headers)
    reason = choice.reasons[-1]
    for candidate in choice.ranked:
        stack = decode_stack(candidate, read_grays, lambda *_: None)
        if not stack.slices:
            reason = stack.failures[0]
            continue
        cover = cover_stack(stack)
        if cover.is_chest:
            return stack.of_lung(cover)
        reason = cover.reason
    raise UnusableError(reason)
