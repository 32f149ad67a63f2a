"""Sends hostile attempts, one connection each, and notes whether the receiver ended every one in time."""

import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from tests.hostile.grammar import attempt

LIMIT_S: Final = 20.0  # twice ARTIM: whatever was sent, the connection has ended by then
_ASSOCIATE_AC: Final = 2
_RESET_EVERY: Final = 50  # so many connections end with a reset instead of a farewell
_NO_LINGER: Final = struct.pack("ii", 1, 0)


@dataclass
class Outcome:
    """What came of many attempts."""

    sent: int = 0
    over_association: int = 0  # of these, over an association that was accepted
    answers: Counter[str] = field(default_factory=Counter)  # type of the last PDU that came back
    longest_s: float = 0.0
    hung: list[int] = field(default_factory=list)  # numbers of the attempts

    def add(self, other: "Outcome") -> None:
        """Take another's counts as well."""
        self.sent += other.sent
        self.over_association += other.over_association
        self.answers.update(other.answers)
        self.longest_s = max(self.longest_s, other.longest_s)
        self.hung += other.hung


def attack(
    port: int, seed: int, numbers: Iterable[int], header: Callable[[int, int], bytes] | None = None
) -> Outcome:
    """Send these attempts one after the other, each behind its `header` if there is one."""
    outcome = Outcome()
    for number in numbers:
        made = attempt(seed, number)
        started = time.monotonic()
        begin = header(seed, number) if header else b""
        answer = _send(port, number, begin + made.before + made.bad)
        outcome.sent += 1
        outcome.longest_s = max(outcome.longest_s, time.monotonic() - started)
        if answer is None:
            outcome.hung.append(number)
            continue
        outcome.over_association += made.is_associated and answer[:1] == bytes([_ASSOCIATE_AC])
        outcome.answers[_last_word(answer)] += 1
    return outcome


def _send(port: int, number: int, data: bytes) -> bytes | None:
    """Send all, say that no more comes, and return all that comes back; None: it did not end."""
    with socket.socket() as connection:
        connection.settimeout(LIMIT_S)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        connection.bind(source(number))
        connection.connect(("127.0.0.1", port))
        try:
            connection.sendall(data)
            if number % _RESET_EVERY == 0:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                return b""
            connection.shutdown(socket.SHUT_WR)
            return drained(connection)
        except TimeoutError:
            return None
        except OSError:  # it was ended while we still sent
            return b"reset"


def source(number: int) -> tuple[str, int]:
    """Return an own address and port for each of five million connections.

    A closed one keeps its port for a minute; one of those that the kernel gives out would be missing
    to whoever starts a server meanwhile.
    """
    return f"127.0.0.{2 + number % 250}", 10_000 + number // 250 % 22_000


def drained(connection: socket.socket) -> bytes:
    """Return all that comes until the other side ends."""
    answer = b""
    while part := connection.recv(65_536):
        answer += part
    return answer


def _last_word(answer: bytes) -> str:
    """Return what the receiver's last PDU was."""
    names = {2: "A-ASSOCIATE-AC", 3: "A-ASSOCIATE-RJ", 4: "P-DATA-TF", 6: "A-RELEASE-RP", 7: "A-ABORT"}
    position, last = 0, "nothing"
    while position + 6 <= len(answer):
        last = names.get(answer[position], f"type {answer[position]}")
        position += 6 + int.from_bytes(answer[position + 2 : position + 6], "big")
    return "reset" if answer == b"reset" else last
