"""What TLS costs the receiver: `python -m benchmarks.receive_tls [--folder DIR]`.

One receiver, its two ports in turn, with as many associations at once; the pre-encoded sender, which has to
encrypt as well, on the same machine. DCMTK's `storescp +tls` beside it.
"""

import argparse
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.instances import make_instance, renumber
from benchmarks.receivers import Receiver
from benchmarks.senders import PreEncoded
from tests.certificates import Authority, Identity
from tests.nodes import listens, stop, wait_for
from tests.orthanc import free_port
from tests.receiving import running_receiver

ASSOCIATIONS: Final = (1, 4, 8)
IMAGES: Final = 120  # a pass, of 526 KB each
ROUNDS: Final = 9  # the first only touches the memory


@contextmanager
def storescp(folder: Path, identity: Identity, authority: Authority) -> Iterator[Receiver]:
    """Run DCMTK's storescp with TLS while the block runs."""
    port = free_port()
    folder.mkdir()
    tls = ["+tls", str(identity.key), str(identity.certificate), "+cf", str(authority.file)]
    command = ["storescp", "--fork", "+B", *tls, "-od", str(folder), str(port)]
    process = subprocess.Popen(command, env=os.environ | {"TCP_NODELAY": "1"})
    try:
        wait_for(lambda: listens(port), what="storescp")
        yield Receiver("storescp +tls", port, process.pid, folder, 0.0)
    finally:
        stop(process)


def measure(folder: Path, identity: Identity, authority: Authority) -> None:
    """Visit every cell once a round and print medians."""
    context = ssl.create_default_context(cafile=authority.file)
    context.load_cert_chain(identity.certificate, identity.key)
    tls = {"port": 0, "certificate": str(identity.certificate), "private_key": str(identity.key)}
    samples: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    instance, number = make_instance(), 0
    with (
        running_receiver(folder, tls=tls | {"authorities": str(authority.file)}) as ours,
        storescp(folder / "storescp", identity, authority) as dcmtk,
    ):
        plain = Receiver("lungnode", ours.port, ours.process.pid, ours.spool, 0.0)
        secure = Receiver("lungnode, TLS", ours.tls_port, ours.process.pid, ours.spool, 0.0)
        cells = [(plain, None), (secure, context), (dcmtk, context)]
        for turn in range(ROUNDS):
            for associations in ASSOCIATIONS:
                for receiver, encryption in cells[turn % 3 :] + cells[: turn % 3]:
                    batch = [renumber(instance, number + offset) for offset in range(IMAGES)]
                    number += IMAGES
                    os.sync()
                    before = receiver.cpu_s()
                    done = PreEncoded(context=encryption).send(receiver.port, batch, associations)
                    cost = (receiver.cpu_s() - before) / done.bytes * 1e9
                    receiver.empty()
                    if turn:
                        samples[receiver.name, associations].append((IMAGES / done.seconds, cost))
    for (name, associations), cell in sorted(samples.items(), key=lambda item: (item[0][1], item[0][0])):
        speeds = [speed for speed, _ in cell]
        rate = median(speeds) * len(instance.data_set) / 1e6
        cost = median(cost for _, cost in cell)
        print(
            f"{name:16} {associations}: {median(speeds):7.1f} images/s "
            f"({min(speeds):.0f}-{max(speeds):.0f}), {rate:7.1f} MB/s, {cost:5.2f} CPU-s/GB"
        )


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to store; its disk is measured")
    folder = Path(tempfile.mkdtemp(prefix="lungnode-tls-", dir=parser.parse_args().folder))
    try:
        authority = Authority(folder / "authority")
        measure(folder, authority.sign("localhost"), authority)
    finally:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
