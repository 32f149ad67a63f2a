"""Where a study of the archive was used: in the cache, and in the lists of runs."""

import fcntl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lungnode.errors import LungnodeError
from trainer.archive import SOURCE
from trainer.cache import DONE_FILE, CachedStudy
from trainer.manifest import read_manifest
from trainer.run_names import LOCK_FILE, SAMPLES_FILE
from trainer.samples import Sample


@dataclass(frozen=True)
class Use:
    """What trainings had of a study."""

    contents: frozenset[str]  # digests of its slices: of files in the cache, and of samples of runs
    runs: tuple[str, ...]  # names of the runs, which are those of their models
    busy: tuple[str, ...]  # of them, those that another program trains in now


def use_of(study_instance_uid: str, cache: Path, runs: Path) -> Use:
    """Look for a study; a run whose list cannot be read is passed over.

    Args:
        study_instance_uid: Of a study of the archive.
        cache: Folder of all caches.
        runs: Folder of the runs.
    """
    contents = set(_cached(study_instance_uid, cache))
    found, busy = [], []
    for path in sorted(path for path in runs.glob("*") if path.is_dir()):
        samples = [sample for sample in _samples(path) if _is_of(sample, study_instance_uid)]
        if not samples:
            continue
        contents.update(sample.digest for sample in samples if sample.digest)
        found.append(path.name)
        if _is_busy(path):
            busy.append(path.name)
    return Use(frozenset(contents), tuple(found), tuple(busy))


def _cached(study_instance_uid: str, cache: Path) -> Iterator[str]:
    for path in cache.glob(f"*/{study_instance_uid}/*/{DONE_FILE}"):
        try:
            study = CachedStudy.model_validate_json(path.read_bytes())
        except (OSError, ValueError):
            continue  # of another version, or damaged: no training reads it
        yield from (each.sha256 for each in study.slices)


def _is_busy(run: Path) -> bool:
    try:
        with (run / LOCK_FILE).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _samples(run: Path) -> list[Sample]:
    try:
        return read_manifest(run / SAMPLES_FILE)
    except LungnodeError:
        return []


def _is_of(sample: Sample, study_instance_uid: str) -> bool:
    return sample.source == SOURCE and sample.study == study_instance_uid
