"""The receiver as an operator meets it: start, limits, admission, damage to disk and processes, stop."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from daemon.receiver.dimse import Status
from tests.dicom_wire import ABORT, Peer, associate_request, pdu, pdv, store_command, store_message
from tests.disks import Disks
from tests.nodes import lives
from tests.receiving import (
    RunningReceiver,
    an_instance,
    digest,
    digest_of_data_set,
    running_receiver,
    wait_until,
)

ASSOCIATE_AC, ASSOCIATE_RJ, A_ABORT = 2, 3, 7
PERMANENT, TRANSIENT = 1, 2
SERVICE_USER, PRESENTATION_PROVIDER = 1, 3


def answer_to(receiver: RunningReceiver, request: bytes) -> tuple[int, ...]:
    """Type of the answer, and for a rejection its result, source and reason."""
    with receiver.connect() as peer:
        peer.send(request)
        pdu_type, body = peer.read_pdu()
    return (pdu_type, *body[1:4]) if pdu_type == ASSOCIATE_RJ else (pdu_type,)


def test_the_address_is_published_while_the_receiver_listens(tmp_path: Path) -> None:
    with running_receiver(tmp_path) as receiver:
        published = json.loads((receiver.data / "receiver.json").read_text())
        assert published == {"host": "127.0.0.1", "port": receiver.port, "pid": receiver.process.pid}

    assert not (receiver.data / "receiver.json").exists()
    assert receiver.process.returncode == 0


def test_the_command_runs_the_receiver(tmp_path: Path) -> None:
    address = tmp_path / "receiver.json"
    variables = {"LUNGNODE_RECEIVER__PORT": "0", "LUNGNODE_RECEIVER__HOST": "127.0.0.1"}
    command = [str(Path(sys.executable).with_name("lungnode")), "receive", "--data", str(tmp_path)]
    process = subprocess.Popen(command, env=os.environ | variables, stderr=subprocess.PIPE)
    try:
        wait_until(lambda: address.exists() or process.poll() is not None, "the receiver does not start")
        with Peer(json.loads(address.read_text())["port"]) as peer:
            peer.associate()
            assert peer.echo() == Status.SUCCESS
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_port_that_is_taken_is_one_sentence_and_exit_code_1(tmp_path: Path) -> None:
    with running_receiver(tmp_path) as receiver:
        variables = {"LUNGNODE_RECEIVER__PORT": str(receiver.port), "LUNGNODE_RECEIVER__HOST": "127.0.0.1"}
        command = [str(Path(sys.executable).with_name("lungnode")), "receive", "--data", str(tmp_path / "b")]
        result = subprocess.run(
            command, env=os.environ | variables, capture_output=True, text=True, timeout=60, check=False
        )

    assert result.returncode == 1
    sentence = (
        f"lungnode: The receiver cannot listen on 127.0.0.1 port {receiver.port}: Address already in use."
    )
    assert sentence in result.stderr


@pytest.mark.parametrize(
    ("settings", "request_pdu", "answer"),
    [
        ({}, associate_request(called="OTHER"), (ASSOCIATE_RJ, PERMANENT, SERVICE_USER, 7)),
        ({"called_ae_titles": ["OTHER"]}, associate_request(called="OTHER"), (ASSOCIATE_AC,)),
        ({"any_called_ae_title": True}, associate_request(called="OTHER"), (ASSOCIATE_AC,)),
        ({"calling_ae_titles": ["CT1"]}, associate_request(calling="CT1"), (ASSOCIATE_AC,)),
        ({"calling_ae_titles": ["CT1"]}, associate_request(), (ASSOCIATE_RJ, PERMANENT, SERVICE_USER, 3)),
        ({"networks": ["127.0.0.0/8"]}, associate_request(), (ASSOCIATE_AC,)),
        ({"networks": ["10.0.0.0/8"]}, associate_request(), (ASSOCIATE_RJ, PERMANENT, SERVICE_USER, 1)),
    ],
    ids=["called", "called listed", "called any", "calling listed", "calling", "network listed", "network"],
)
def test_admission_is_by_called_title_calling_title_and_address(
    tmp_path: Path, settings: dict[str, object], request_pdu: bytes, answer: tuple[int, ...]
) -> None:
    with running_receiver(tmp_path, processes=1, **settings) as receiver:
        assert answer_to(receiver, request_pdu) == answer
        if answer[0] == ASSOCIATE_RJ:
            receiver.wait_for_log("_NOT_RECOGNIZED" if answer[3] != 1 else "rejected: NO_REASON_GIVEN")


def test_no_more_associations_than_allowed_are_open_over_all_processes(tmp_path: Path) -> None:
    with running_receiver(tmp_path, processes=2, max_associations=3) as receiver:
        peers = [receiver.connect() for _ in range(3)]
        for peer in peers:
            peer.associate()

        assert answer_to(receiver, associate_request()) == (
            ASSOCIATE_RJ,
            TRANSIENT,
            PRESENTATION_PROVIDER,
            2,
        )
        receiver.wait_for_log("rejected: LOCAL_LIMIT_EXCEEDED")
        peers[0].release()
        wait_until(lambda: answer_to(receiver, associate_request())[0] == ASSOCIATE_AC, "no seat became free")
        for peer in peers:
            peer.socket.close()


def test_a_killed_process_frees_its_seats_and_is_started_again(tmp_path: Path) -> None:
    with running_receiver(tmp_path, processes=1, max_associations=1) as receiver:
        (child,) = receiver.children()
        with receiver.connect() as peer:
            peer.associate()
            os.kill(child, signal.SIGKILL)

        receiver.wait_for_log(f"receiver process {child} ended (-9); another is started")
        assert answer_to(receiver, associate_request()) == (ASSOCIATE_AC,)


def test_kill_9_in_mid_transfer_leaves_every_final_name_whole(tmp_path: Path) -> None:
    with running_receiver(tmp_path, processes=1) as receiver:
        whole, cut = an_instance(1), an_instance(2, size=3_000_000)
        with receiver.connect() as peer:
            peer.associate()
            peer.store(whole)
            peer.send(store_message(cut, maximum_length=65_536)[:2_500_000])
            wait_until(
                lambda: _part_sizes(receiver) > [1_000_000], "nothing of the second instance is written"
            )
            os.kill(receiver.children()[0], signal.SIGKILL)

        receiver.wait_for_log("another is started")
        assert [digest_of_data_set(path) for path in receiver.files()] == [digest(whole.data_set)]
        (folder,) = receiver.spool.iterdir()
        assert not (folder / "ended.json").exists()


def _part_sizes(receiver: RunningReceiver) -> list[int]:
    return [path.stat().st_size for path in receiver.half_files()]


def test_64_associations_at_once_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    with running_receiver(tmp_path, processes=2) as receiver:
        peers = [receiver.connect() for _ in range(64)]
        for peer in peers:
            peer.associate()
        instances = [an_instance(number, size=20_000) for number in range(256)]
        statuses: list[int] = []

        def send(share: int) -> None:
            statuses.extend(peers[share].store(instance) for instance in instances[share::64])

        threads = [threading.Thread(target=send, args=(share,)) for share in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert statuses == [Status.SUCCESS] * 256
        on_disk = sorted(digest_of_data_set(path) for path in receiver.files())
        assert on_disk == sorted(digest(instance.data_set) for instance in instances)
        assert len(list(receiver.spool.iterdir())) == 64
        for peer in peers:
            peer.release()
            peer.socket.close()


def test_every_process_serves(tmp_path: Path) -> None:
    with running_receiver(tmp_path, processes=2) as receiver:

        def serving() -> set[int]:
            with receiver.connect() as peer:
                peer.associate()
                peer.store(an_instance())
            notes = receiver.spool.glob("*/association.json")
            return {json.loads(note.read_text())["process"] for note in notes}

        wait_until(lambda: serving() == set(receiver.children()), "a process serves nobody")


def test_a_disk_below_the_second_watermark_is_told_without_a_byte_written(tmp_path: Path) -> None:
    with running_receiver(tmp_path, processes=1, disk_reject_bytes=1 << 60) as receiver:
        with receiver.connect() as peer:
            peer.associate()

            assert peer.store(an_instance()) == Status.OUT_OF_RESOURCES
            assert peer.echo() == Status.SUCCESS
            assert not list(receiver.spool.iterdir())
        receiver.wait_for_log("is full: ")
        receiver.wait_for_log("refused: OUT_OF_RESOURCES (0xA700), disk full")


def test_a_disk_that_fills_costs_the_instance_and_not_the_association(disks: Disks) -> None:
    with running_receiver(disks.make(2).folder, processes=1) as receiver, receiver.connect() as peer:
        peer.associate()
        first, last = an_instance(1), an_instance(3)

        assert peer.store(first) == Status.SUCCESS
        assert peer.store(an_instance(2, size=4_000_000), maximum_length=65_536) == Status.OUT_OF_RESOURCES
        assert not receiver.half_files()
        assert peer.store(last) == Status.SUCCESS
        assert [digest_of_data_set(path) for path in receiver.files()] == [
            digest(first.data_set),
            digest(last.data_set),
        ]
        receiver.wait_for_log("cannot be written: No space left on device")


def test_a_disk_that_is_full_from_the_first_byte_on_leaves_no_folder(disks: Disks) -> None:
    disk = disks.make(2)
    with running_receiver(disk.folder, processes=1) as receiver, receiver.connect() as peer:
        peer.associate()
        disk.fill()

        assert peer.store(an_instance(1)) == Status.OUT_OF_RESOURCES
        assert not list(receiver.spool.glob("*/*.dcm"))
        disk.make_room()
        assert peer.store(an_instance(2)) == Status.SUCCESS


def test_below_the_second_watermark_nothing_is_written_and_the_association_goes_on(disks: Disks) -> None:
    disk = disks.make(8)
    limits = {"disk_warn_bytes": 6_000_000, "disk_reject_bytes": 4_000_000}
    with running_receiver(disk.folder, processes=1, **limits) as receiver, receiver.connect() as peer:
        peer.associate()
        assert peer.store(an_instance(1)) == Status.SUCCESS
        disk.fill(leave=5_000_000)
        assert peer.store(an_instance(2)) == Status.SUCCESS
        receiver.wait_for_log("is low: ")
        disk.fill(leave=3_000_000)
        entries = {path: path.stat().st_mtime_ns for path in receiver.spool.rglob("*")}
        free = disk.free

        # The data sets go over the wire all the same, several at once.
        with receiver.connect() as other:
            other.associate()
            for number in range(3, 6):
                for sender in (peer, other):
                    assert sender.store(an_instance(number, size=400_000)) == Status.OUT_OF_RESOURCES
            assert other.echo() == Status.SUCCESS

        assert {path: path.stat().st_mtime_ns for path in receiver.spool.rglob("*")} == entries
        # Nothing but lines of the log, which lies on the same disk.
        assert free - disk.free < 8192
        receiver.wait_for_log("is full: ")
        disk.make_room()
        assert peer.store(an_instance(6)) == Status.SUCCESS
        assert len(receiver.files()) == 3


def test_a_spool_that_cannot_be_made_is_told_as_out_of_resources(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/spool").write_text("not a folder")
    with running_receiver(tmp_path, processes=1) as receiver, receiver.connect() as peer:
        peer.associate()

        assert peer.store(an_instance()) == Status.OUT_OF_RESOURCES
        assert peer.echo() == Status.SUCCESS
        receiver.wait_for_log("the spool cannot be written: Not a directory")


def test_a_peer_that_sends_no_request_is_aborted_after_artim(tmp_path: Path) -> None:
    with running_receiver(tmp_path, processes=1, artim_s=0.2) as receiver, receiver.connect() as peer:
        peer.send(associate_request()[:50])

        assert peer.read_pdu()[0] == A_ABORT
        assert peer.is_closed_by_peer()
        receiver.wait_for_log("sent no usable A-ASSOCIATE-RQ: The peer")


def test_a_peer_that_falls_silent_is_aborted_after_the_idle_time(tmp_path: Path) -> None:
    with running_receiver(tmp_path, processes=1, idle_s=0.2) as receiver:
        with receiver.connect() as peer:
            peer.associate()
            peer.send(pdu(4, pdv(1, 3, store_command(an_instance())) + pdv(1, 0, b"half"))[:-2])

            assert peer.read_pdu()[0] == A_ABORT
        receiver.wait_for_log("aborted: 0 instances")
        assert not receiver.half_files()


def test_sigterm_lets_a_running_store_finish_and_aborts_the_idle(tmp_path: Path) -> None:
    with running_receiver(tmp_path, processes=1) as receiver, receiver.connect() as idle:
        idle.associate()
        with receiver.connect() as busy:
            busy.associate()
            instance = an_instance(size=100_000)
            message = store_message(instance, maximum_length=16_384)
            busy.send(message[:-20_000])
            wait_until(receiver.half_files, "the transfer does not begin")

            receiver.process.send_signal(signal.SIGTERM)
            assert idle.read_pdu()[0] == A_ABORT
            busy.send(message[-20_000:])

            assert busy.read_status() == Status.SUCCESS
            assert busy.read_pdu()[0] == A_ABORT
        idle.socket.close()
        assert receiver.process.wait(30) == 0
        assert [digest_of_data_set(path) for path in receiver.files()] == [digest(instance.data_set)]
        ended = json.loads((receiver.files()[0].parent / "ended.json").read_text())
        assert ended["outcome"] == "aborted"


def test_who_only_connected_is_nothing_to_warn_of_when_the_receiver_stops(tmp_path: Path) -> None:
    with running_receiver(tmp_path, processes=1) as receiver, receiver.connect() as probe:
        with receiver.connect() as later:  # the probe was taken before it
            later.associate()
            later.release()

        receiver.process.send_signal(signal.SIGTERM)

        assert probe.is_closed_by_peer()
        assert receiver.process.wait(60) == 0
        assert "sent no usable A-ASSOCIATE-RQ" not in receiver.log_text()


def test_a_transfer_that_does_not_end_is_cut_when_the_receiver_stops(tmp_path: Path) -> None:
    with running_receiver(tmp_path, processes=1) as receiver, receiver.connect() as peer:
        peer.associate()
        peer.send(store_message(an_instance())[:-10])
        wait_until(receiver.half_files, "the transfer does not begin")

        receiver.process.send_signal(signal.SIGTERM)

        assert receiver.process.wait(30) == 0
        assert not receiver.files()


def test_children_do_not_outlive_a_parent_that_was_killed(tmp_path: Path) -> None:
    with running_receiver(tmp_path, processes=2) as receiver:
        children = receiver.children()

        receiver.process.kill()

        wait_until(lambda: not any(map(lives, children)), "a child lives on")


def test_counts_are_logged_on_request(tmp_path: Path) -> None:
    with running_receiver(tmp_path, processes=1) as receiver:
        answer_to(receiver, associate_request(called="OTHER"))
        receiver.wait_for_log("rejected")

        receiver.process.send_signal(signal.SIGUSR1)

        receiver.wait_for_log("counted since the start: {'CALLED_AE_TITLE_NOT_RECOGNIZED': 1")


def test_one_line_says_how_an_association_ended(tmp_path: Path) -> None:
    with running_receiver(tmp_path, processes=1) as receiver:
        with receiver.connect() as peer:
            peer.associate()
            peer.store(an_instance(1, size=1_000))
            peer.send(pdu(4, pdv(1, 3, store_command(an_instance(), data_set_type=0x0101))))
            peer.read_status()
            peer.send(ABORT)
            assert peer.is_closed_by_peer()
        receiver.wait_for_log("aborted: ")

    (line,) = [line for line in receiver.log_text().splitlines() if "association of" in line]
    assert re.search(
        r"association of TEST \(127\.0\.0\.1\) to LUNGNODE aborted: 1 instances, 1012 bytes, [\d.]+ s, "
        r"refused: 1 CANNOT_UNDERSTAND; the peer aborted$",
        line,
    )


def test_eight_associations_stay_below_150_mb_a_process(tmp_path: Path) -> None:
    with running_receiver(tmp_path, processes=2) as receiver:
        peers = [receiver.connect() for _ in range(8)]
        for number, peer in enumerate(peers):
            peer.associate()
            for copy in range(4):
                instance = an_instance(8 * number + copy, size=3_000_000)
                assert peer.store(instance, maximum_length=131_072) == Status.SUCCESS

        for pid in (receiver.process.pid, *receiver.children()):
            status = Path(f"/proc/{pid}/status").read_text()
            peak_kb = int(status.partition("VmHWM:")[2].split()[0])
            assert peak_kb < 150_000
        for peer in peers:
            peer.socket.close()


def test_the_receiver_imports_no_tensorflow_and_no_science_stack() -> None:
    program = "import sys, daemon.receiver.server, lungnode.cli.receive; print(sorted(sys.modules))"

    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    modules = {name.strip("' ") for name in result.stdout.strip("[]\n").split(",")}
    assert "daemon.receiver.server" in modules
    assert not modules & {"tensorflow", "keras", "pandas", "scipy", "sqlalchemy", "celery"}


def test_nobody_can_keep_the_port_busy_with_silent_connections(tmp_path: Path) -> None:
    with running_receiver(tmp_path, processes=1, max_associations=1, artim_s=30) as receiver:
        silent = [receiver.connect() for _ in range(60)]

        assert answer_to(receiver, associate_request()) == (ASSOCIATE_AC,)
        more = [receiver.connect() for _ in range(60)]
        receiver.wait_for_log("are open already")
        for peer in (*silent, *more):
            peer.socket.close()
