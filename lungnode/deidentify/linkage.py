"""Who was who: one file a study beside the node's secret, for its owner alone, never where exports go.

It is for people who must find a patient again; exports agree without it, by the secret.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lungnode.deidentify.pseudonyms import FOLDER, Person, has_pseudonyms, open_pseudonyms


@dataclass(frozen=True)
class Linkage:
    """What a study and all UIDs in it became."""

    study_instance_uid: str
    patient: str  # its ID, or what stands for one
    person: Person
    uids: Mapping[str, str]  # new one of each original

    def write(self, data: Path) -> Path:
        """Keep it below the data folder under the new Study Instance UID; what an earlier export noted stays.

        Raises:
            OSError: It cannot be written.
        """
        path = data / FOLDER / f"{self.uids[self.study_instance_uid]}.json"
        earlier: dict[str, str] = json.loads(path.read_bytes())["uids"] if path.exists() else {}
        document = {
            "study_instance_uid": self.study_instance_uid,
            "patient": self.patient,
            "pseudonym": self.person.patient_id,
            "date_shift_days": self.person.shift_days,
            "uids": {**earlier, **self.uids},
        }
        _write_private(path, json.dumps(document, indent=1).encode())
        return path


def forget(data: Path, study_instance_uid: str) -> bool:
    """Delete what says who a study became, if there is anything; copies that left stay where they are.

    Raises:
        UnusableError: The node's secret cannot be used.
        OSError: It cannot be deleted.
    """
    if not has_pseudonyms(data):
        return False
    path = data / FOLDER / f"{open_pseudonyms(data).uid(study_instance_uid)}.json"
    found = path.exists()
    path.unlink(missing_ok=True)
    return found


def _write_private(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
