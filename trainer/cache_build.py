"""Filling the cache: a study is read, its chest series chosen as a worker does, its lung slices kept."""

import ctypes
import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Final

from lungnode.errors import LungnodeError, UnavailableError
from lungnode.loading import Images, read_images
from lungnode.stack import Stack
from trainer.attributes import scan_attributes
from trainer.cache import VERSION, Cache, CachedStudy, StudyFiles
from trainer.chest import lung_stack
from trainer.progress import Progress, Silence

MOST_PROCESSES: Final = 16  # each has a whole study in memory, some 100 to 600 MB
SILENCE: Final = Silence()
_PR_SET_PDEATHSIG: Final = 1  # Source: linux/prctl.h
_STORED_BYTES: Final = 2  # a pixel of CT, 12 bits stored in 16


@dataclass(frozen=True)
class Built:
    """What became of one study."""

    files: StudyFiles
    study: CachedStudy | None
    reason: str = ""  # why there is none; one sentence
    reused: bool = False  # it was in the cache already


def build_cache(
    studies: Sequence[StudyFiles], cache: Cache, processes: int, progress: Progress = SILENCE
) -> list[Built]:
    """Bring every study into the cache, in several processes; tell in their order what became of each.

    A study that cannot be used is told, not raised. A second call builds what is missing alone.

    Raises:
        UnavailableError: The cache cannot be written, or a process was killed; what was built is kept.
    """
    found = {files: Built(files, kept, reused=True) for files in studies if (kept := cache.read(files))}
    missing = [files for files in studies if files not in found]
    progress.begin("Compress", len(missing))
    for built in _build(missing, cache, min(processes, len(missing), MOST_PROCESSES)):
        found[built.files] = built
        progress.advance()
    return [found[files] for files in studies]


def _build(missing: Sequence[StudyFiles], cache: Cache, processes: int) -> Iterator[Built]:
    """Yield what becomes of each study, as it is done."""
    if processes <= 1:
        yield from (build_study(files, cache) for files in missing)
        return
    with _processes(processes) as pool:
        futures = [pool.submit(build_study, files, cache) for files in missing]
        yield from (future.result() for future in as_completed(futures))


@contextmanager
def _processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Yield processes that end with us, however we end."""
    # Spawned, not forked: TensorFlow's threads may hold locks that a fork would keep for ever.
    pool = ProcessPoolExecutor(count, get_context("spawn"), _end_with_parent, (os.getpid(),))
    try:
        yield pool
    except BrokenProcessPool as error:
        raise UnavailableError(
            "A process that fills the training cache was killed, probably for want of memory; start again "
            "with fewer of them. What is done is kept."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent(parent: int) -> None:
    # A process that waits for work does not notice that whoever would give it was killed.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer


def build_study(files: StudyFiles, cache: Cache) -> Built:
    """Bring one study into the cache.

    Raises:
        UnavailableError: The cache cannot be written.
    """
    try:
        files.fetch()
        images = read_images(files.paths)
        stack = lung_stack(images)
    except LungnodeError as error:  # a file that is away is one study less, and is told
        return Built(files, None, str(error))
    described = _describe(files, images, stack)
    return Built(files, cache.write(files, stack.grays, stack.known_positions_mm, described))


def _describe(files: StudyFiles, images: Images, stack: Stack) -> CachedStudy:
    first = stack.slices[0]
    frames = Counter(header.path for header in images.headers)
    return CachedStudy(
        version=VERSION,
        source=files.digest,
        slices=(),
        attributes=scan_attributes(images.sources[first.sop_instance_uid], first.thickness_mm),
        received=sum(path.stat().st_size for path in files.paths),
        received_slices=sum(header.path.stat().st_size // frames[header.path] for header in stack.slices),
        stored_pixels=sum(gray.size * _STORED_BYTES for gray in stack.grays),
        failures=(*images.unreadable, *stack.failures),
    )


@dataclass(frozen=True)
class CacheFigures:
    """What the cache takes beside what it came from; sizes in bytes."""

    studies: int
    reused: int  # of them, were there already
    slices: int
    received: int  # the studies' files
    received_slices: int  # of those, the files of the slices that were kept
    stored_pixels: int  # the same slices, two bytes a pixel
    cached: int

    @property
    def sentence(self) -> str:
        """Say it to an operator."""
        mb = {name: f"{value / 1e6:,.1f} MB" for name, value in vars(self).items()}
        return (
            f"The cache has {self.slices} lung slices of {self.studies} studies ({self.reused} were there): "
            f"{mb['cached']}, which were {mb['received_slices']} as received and {mb['stored_pixels']} "
            f"without compression; all files of the studies take {mb['received']}."
        )


def measure_cache(built: Sequence[Built]) -> CacheFigures:
    """Add up what the cache has of the studies."""
    kept = [each.study for each in built if each.study]
    return CacheFigures(
        studies=len(kept),
        reused=sum(each.reused for each in built),
        slices=sum(len(study.slices) for study in kept),
        received=sum(study.received for study in kept),
        received_slices=sum(study.received_slices for study in kept),
        stored_pixels=sum(study.stored_pixels for study in kept),
        cached=sum(study.size for study in kept),
    )
