"""Received files that cannot be indexed: kept, each with its reason beside it."""

import json
import os
import re
from dataclasses import dataclass
from datetime import datetime
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from daemon.clerk.plan import Received
from lungnode.digest import file_digest
from lungnode.store.placing import place


@dataclass(frozen=True)
class Rejected:
    """A file that cannot be indexed."""

    received: Received
    reason: str


def set_aside(rejected: Rejected, folder: Path, now: datetime) -> dict[str, Any]:
    """Put a file with its reason into the quarantine; returns its row."""
    path, association = rejected.received.path, rejected.received.association
    association_id = association.id if association else ""
    calling = association.facts.calling_ae_title if association else ""
    kept = place(path, folder, f"{association_id}-{path.name}", _digest(path))
    row = {
        "path": kept.name,
        "reason": rejected.reason,
        "association_id": association_id,
        "calling_ae_title": calling,
        "received_at": now,
    }
    with kept.with_suffix(".json").open("w", encoding="utf-8") as file:
        json.dump(row, file, default=datetime.isoformat)
        file.flush()
        os.fsync(file.fileno())
    return row


def quarantined_of(folder: Path, study_instance_uid: str) -> list[Path]:
    """Return the quarantined files in whose bytes a study's UID stands; the rest cannot be told.

    Raises:
        OSError: One cannot be read.
    """
    uid = re.compile(rb"(?<![0-9.])" + re.escape(study_instance_uid.encode("ascii")) + rb"(?![0-9.])")
    found = []
    for path in sorted(folder.glob("*.dcm")):
        with path.open("rb") as file:
            if path.stat().st_size and uid.search(mmap(file.fileno(), 0, access=ACCESS_READ)):
                found.append(path)
    return found


def _digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError:
        return "unreadable"
