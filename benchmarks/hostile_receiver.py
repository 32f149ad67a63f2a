"""What `benchmarks.hostile` does to a receiver: each part returns what it counted, and what was not right."""

import multiprocessing
import socket
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from tests.hostile.attack import Outcome, attack
from tests.hostile.crowd import GROWTH_KB, Crowd
from tests.hostile.honest import Honest
from tests.hostile.janitor import Janitor
from tests.hostile.tls import attack_tls, tls_receiver
from tests.hostile.watch import Watch
from tests.receiving import RunningReceiver, running_receiver

_FORK: Final = multiprocessing.get_context("fork")
_ATTACKERS: Final = 3
Found = dict[str, Any]


def fuzzed_pdus(folder: Path, seed: int, first: int, count: int) -> Found:
    """Send bad PDUs, a connection each, from several processes, while an honest sender is served."""
    with running_receiver(folder) as receiver:
        return _attacked(receiver, lambda share: attack(receiver.port, seed, _share(share, first, count)))


def fuzzed_tls(folder: Path, seed: int, first: int, count: int) -> Found:
    """Send bad handshakes, and bad PDUs behind good ones."""
    with tls_receiver(folder) as (receiver, context):
        port = receiver.tls_port
        return _attacked(receiver, lambda share: attack_tls(port, context, seed, _share(share, first, count)))


def bare_connects(folder: Path, _seed: int, _first: int, count: int) -> Found:
    """Connect and go, many times: threads, descriptors and memory are as before."""
    with running_receiver(folder) as receiver:
        watch = Watch.begin(receiver)
        for _ in range(count):
            socket.create_connection(("127.0.0.1", receiver.port)).close()
        problems = watch.problems()
        pairs = [(watch.before[pid], now) for pid, now in watch.now().items()]
        if any(now.resident_kb - before.resident_kb > GROWTH_KB for before, now in pairs):
            problems.append("memory grew")
    told = [[asdict(one) for one in pair] for pair in pairs]
    return {"sent": count, "before_and_after": told, "problems": problems}


def many_associations(folder: Path, _seed: int, _first: int, count: int) -> Found:
    """Store over 64 associations at once."""
    with running_receiver(folder) as receiver:
        return Crowd(receiver, 64).send(count)


def _share(number: int, first: int, count: int) -> range:
    return range(first + number, first + count, _ATTACKERS)


def _attacked(receiver: RunningReceiver, work: Callable[[int], Outcome]) -> Found:
    """Let several processes attack, and say what came of it."""
    watch = Watch.begin(receiver)
    total = Outcome()
    with Janitor(receiver.spool), Honest(receiver, 4_000, pause_s=0.01) as honest:
        for outcome in _in_processes(work):
            total.add(outcome)
    problems = [*honest.problems(), *watch.problems()]
    if total.hung:
        problems.append(f"attempts hung: {total.hung[:20]}")
    lines = receiver.log_text().count("\n")
    if lines > 3 * total.sent:  # an association has its end, refused contexts and a refused command
        problems.append(f"{lines} lines of log for {total.sent} attempts")
    return asdict(total) | {
        "answers": dict(total.answers.most_common()),
        "honest": len(honest.acknowledged),
        "log_lines": lines,
        "resident_kb": [[watch.before[pid].resident_kb, now.resident_kb] for pid, now in watch.now().items()],
        "problems": problems,
    }


def _in_processes(work: Callable[[int], Outcome]) -> list[Outcome]:
    pipes = []
    for share in range(_ATTACKERS):
        mine, theirs = _FORK.Pipe(duplex=False)
        _FORK.Process(target=_tell, args=(work, share, theirs), daemon=True).start()
        theirs.close()
        pipes.append(mine)
    return [pipe.recv() for pipe in pipes]


def _tell(work: Callable[[int], Outcome], share: int, end: Any) -> None:
    end.send(work(share))
