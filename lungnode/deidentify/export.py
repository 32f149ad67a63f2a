"""De-identified copies of studies; each is a folder of images that appears whole, or not at all.

FOLDER/<new Study Instance UID>/<new SOP Instance UID>.dcm
"""

import fcntl
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from pydicom.config import disable_value_validation

from lungnode.deidentify.admission import check_admissible
from lungnode.deidentify.linkage import Linkage
from lungnode.deidentify.profile import Deidentifier
from lungnode.deidentify.pseudonyms import Person, Pseudonyms
from lungnode.deidentify.verify import verify
from lungnode.durable import sync_folder
from lungnode.errors import LungnodeError, UnavailableError
from lungnode.loading import read_instance
from lungnode.untrusted import untrusted

Progress = Callable[[], None]  # called after each instance


@dataclass(frozen=True)
class Original:
    """A study as it was received."""

    study_instance_uid: str
    patient: str  # its ID, or what stands for one
    instances: Mapping[str, Path]  # file of each SOP Instance UID


@dataclass(frozen=True)
class LeftOut:
    """An instance that does not leave."""

    path: Path
    reason: str  # what is wrong with it; a clause without a full stop

    @property
    def sentence(self) -> str:
        """Say it to an operator."""
        return f"{self.path} was left out: {self.reason}."


@dataclass(frozen=True)
class Export:
    """What became of a study."""

    folder: Path  # its copy, once the block of `export` has ended
    study_instance_uid: str  # the new one
    person: Person
    files: Mapping[str, Path]  # copy of each original SOP Instance UID
    left_out: tuple[LeftOut, ...] = ()
    is_new: bool = True  # false: it was there already, whole


@dataclass(frozen=True)
class Exporter:
    """Copies studies into one folder, under the pseudonyms of one node."""

    data: Path  # the node's data folder
    folder: Path
    pseudonyms: Pseudonyms
    check: bool = True  # have each copy checked by a second tool before its study appears
    progress: Progress = field(default=lambda: None)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other exports out of the folder while the block runs; the folder is made.

        Raises:
            UnavailableError: Another export is writing there, or it cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise UnavailableError(f"The folder {self.folder} cannot be made: {error.strerror}.") from error
        try:
            self._lock(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UnavailableError(f"Another export is writing into {self.folder}; wait for it.") from error

    @contextmanager
    def export(self, study: Original) -> Iterator[Export]:
        """Yield what a study becomes; its folder appears when the block ends well.

        Raises:
            UnavailableError: The folder cannot be written.
        """
        uid = self.pseudonyms.uid(study.study_instance_uid)
        person = self.pseudonyms.person(study.patient)
        target = self.folder / uid
        files = {sop: target / f"{self.pseudonyms.uid(sop)}.dcm" for sop in study.instances}
        if all(path.is_file() for path in files.values()):
            yield Export(target, uid, person, files, is_new=False)
            return
        try:
            with _made_whole(target) as part:
                left_out = self._copy(study, person, {sop: part / path.name for sop, path in files.items()})
                copied = {sop: path for sop, path in files.items() if (part / path.name).exists()}
                yield Export(target, uid, person, copied, left_out)
        except OSError as error:
            raise UnavailableError(f"The export cannot be written: {error}.") from error

    def _copy(self, study: Original, person: Person, files: Mapping[str, Path]) -> tuple[LeftOut, ...]:
        deidentifier = Deidentifier(self.pseudonyms, person)
        left_out = []
        for sop, path in study.instances.items():
            try:
                self._copy_one(deidentifier, path, files[sop])
            except LungnodeError as error:
                files[sop].unlink(missing_ok=True)
                left_out.append(LeftOut(path, str(error).rstrip(".")))
            self.progress()
        uids = {**deidentifier.uids, study.study_instance_uid: self.pseudonyms.uid(study.study_instance_uid)}
        Linkage(study.study_instance_uid, study.patient, person, uids).write(self.data)
        return tuple(left_out)

    def _copy_one(self, deidentifier: Deidentifier, original: Path, target: Path) -> None:
        # What is kept is written as it came: a value that is too long, for example, is the sender's.
        with disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = read_instance(original, pixels=True)
            with untrusted("it cannot be de-identified"):
                check_admissible(ds)
                deidentifier.apply(ds)
                content = BytesIO()
                ds.save_as(content, enforce_file_format=True)
            _write(target, content.getbuffer())
            if self.check:
                with untrusted("its copy cannot be checked"):
                    verify(original, target)


def _write(path: Path, content: memoryview) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _made_whole(target: Path) -> Iterator[Path]:
    """Yield a folder to fill, which takes the place of `target` when the block ends well and filled it."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of an export that was killed
    part.mkdir(parents=True)
    try:
        yield part
        if any(part.iterdir()):
            shutil.rmtree(target, ignore_errors=True)  # an older state of the study
            part.rename(target)
            sync_folder(target.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)
