"""Commands that take longer than a request: each is a process of its own and a row that says how far it is.

Promoting measures models, which needs TensorFlow; the web never loads it.
"""

import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from threading import Event, Thread
from typing import Any

from daemon.web.access import Caller
from daemon.web.audited import writing
from daemon.web.node import WebNode
from db import audit, jobs
from db.models import Job
from db.session import transaction
from lungnode.errors import UnavailableError

_LOG = logging.getLogger(__name__)


def start(node: WebNode, caller: Caller, kind: str, subject: str, command: Sequence[str]) -> Job:
    """Run a `lungnode` command with --json for somebody, and return its job.

    Raises:
        UnusableError: Another job of the kind is at work.
    """
    now = node.clock()
    with writing(node, caller) as session:
        job = jobs.begin(session, kind, subject, caller.name, now)
        audit.record(session, f"{kind} asked for", subject, now, job=job.id)
    whole = [sys.executable, "-m", "lungnode", *command, "--json", "--data", str(node.settings.data)]
    Thread(target=_run, args=(node, job.id, whole), name=f"job-{job.id}", daemon=True).start()
    return job


def _run(node: WebNode, job_id: int, command: Sequence[str]) -> None:
    done = Event()
    keeper = Thread(target=_keep, args=(node, job_id, done), daemon=True)
    keeper.start()
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own
        result, reason = _outcome(ended)
    except OSError as error:
        result, reason = {}, f"The command cannot be started: {error.strerror}."
    finally:
        done.set()
        keeper.join()
    with transaction(node.engine) as session:
        jobs.finish(session, job_id, result, reason, node.clock())
    _LOG.info("job %d ended: %s", job_id, "failed" if reason else "done")


def _outcome(ended: "subprocess.CompletedProcess[str]") -> tuple[dict[str, Any], str]:
    try:
        result = json.loads(ended.stdout) if ended.stdout.strip() else {}
    except ValueError:
        result = {}
    if ended.returncode == 0:
        return result, ""
    said = [
        line.removeprefix("lungnode: ") for line in ended.stderr.splitlines() if line.startswith("lungnode: ")
    ]
    return result, said[-1] if said else f"The command ended with exit code {ended.returncode}."


def _keep(node: WebNode, job_id: int, done: Event) -> None:
    while not done.wait(jobs.LEASE.total_seconds() / 3):
        try:
            with transaction(node.engine) as session:
                jobs.renew(session, job_id, node.clock())
        except UnavailableError as error:
            _LOG.warning("job %d not renewed: %s", job_id, error)
