import json
import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import Comprehensive3DSRStorage
from pynetdicom import AE

from db.accounts import add_account
from db.models import Role
from db.session import open_engine, transaction
from lungnode.cli._check import Check, Status
from lungnode.cli._checks import run_checks
from lungnode.cli.check import rule_of
from lungnode.commitment import PUSH_MODEL
from lungnode.errors import UnusableError
from lungnode.model_folder import MANIFEST_FILE
from lungnode.phantom import phantom_study
from lungnode.settings import (
    DicomDestination,
    FhirDestination,
    Hl7Destination,
    Peer,
    ReceiverSettings,
    Rule,
    SenderDestination,
    Settings,
    StowDestination,
    WebSettings,
)
from tests.bench import Bench
from tests.committing import STUDY_ROOT_FIND, archive
from tests.databases import new_sqlite
from tests.mllp_peers import mllp_peer
from tests.model_folders import Registry
from tests.nodes import command, embedded_broker, variables
from tests.query_peers import matches, scripted_pacs
from tests.web_peers import Reply, web_peer

# pynetdicom 3.0.4 drops the socket of a connection that was refused without closing it.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)
PACS = DicomDestination(name="PACS", ae_title="PACS", host="127.0.0.1", port=104)


def checks(data: Path, **values: Any) -> dict[str, Check]:
    values = {
        "receiver": ReceiverSettings(host="127.0.0.1", port=0, disk_warn_bytes=0, disk_reject_bytes=0),
        **values,
    }
    return {each.name: each for each in run_checks(Settings(data=data, **values))}


def test_a_fresh_machine_lacks_only_a_destination_and_nothing_is_made_by_looking(tmp_path: Path) -> None:
    found = checks(tmp_path / "data")

    assert [name for name, each in found.items() if each.status != Status.OK] == ["destinations"]
    assert found["destinations"].status == Status.WARNING
    assert list(tmp_path.iterdir()) == []


def test_a_destination_named_twice_is_wrong(tmp_path: Path) -> None:
    assert (
        checks(tmp_path, destinations=(PACS, PACS))["settings"].message
        == "Destination 'PACS' is named twice."
    )


def test_results_that_go_back_to_the_sender_need_addresses_of_senders(tmp_path: Path) -> None:
    back = SenderDestination(name="back", kind="sender")
    scanner = Peer(name="scanner", ae_title="CT_1", host="127.0.0.1", port=104)

    without = checks(tmp_path, destinations=(back,))["destination back"]
    with_one = checks(tmp_path, destinations=(back,), peers=(scanner,))["destination back"]

    assert (without.status, with_one.status) == (Status.WRONG, Status.OK)
    assert with_one.message == "Results go back to the sender if it is one of: CT_1."


@pytest.mark.parametrize(
    ("code", "token", "status", "message"),
    [
        (200, None, Status.OK, "answers HTTP 200."),
        (404, None, Status.WARNING, "answers HTTP 404."),
        (401, None, Status.WRONG, "answers HTTP 401."),
        (200, "PACS_TOKEN", Status.WARNING, "We sign in to it without encryption."),
    ],
)
def test_a_destination_of_the_web_is_asked_for_one_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, token: str | None, status: str, message: str
) -> None:
    monkeypatch.setenv("PACS_TOKEN", "secret")
    with web_peer(lambda _request: Reply(code)) as server:
        cloud = StowDestination(name="cloud", kind="stow", url=server.url("/dicom-web"), token_variable=token)
        found = checks(tmp_path, destinations=(cloud,))["destination cloud"]

    assert (found.status, message in found.message) == (status, True)
    assert [request.path for request in server.asked] == ["/dicom-web/studies?limit=1"]


def test_a_fhir_server_is_asked_for_its_capabilities(tmp_path: Path) -> None:
    with web_peer(lambda _request: Reply()) as server:
        ehr = FhirDestination(name="ehr", kind="fhir", url=server.url("/r4"))
        found = checks(tmp_path, destinations=(ehr,))["destination ehr"]

    assert (found.status, server.asked[0].path) == (Status.OK, "/r4/metadata")


def test_an_hl7_receiver_is_connected_to_and_sent_nothing(tmp_path: Path) -> None:
    with mllp_peer() as peer:
        ris = Hl7Destination(name="ris", kind="hl7", host="127.0.0.1", port=peer.port, timeout_s=2)
        up = checks(tmp_path, destinations=(ris,))["destination ris"]
    down = checks(tmp_path, destinations=(ris,))["destination ris"]

    assert (up.status, down.status, peer.received) == (Status.OK, Status.WRONG, [])
    assert "cannot be reached" in down.message


def test_a_rule_that_sends_to_nobody_is_wrong(tmp_path: Path) -> None:
    found = checks(tmp_path, rules=(Rule(name="night", destinations=("PASC",)),))["settings"]

    assert (found.status, found.message) == (
        Status.WRONG,
        "Rule night sends to 'PASC', which is no destination.",
    )
    assert (
        found.mend == "Add a [[destinations]] table with name, ae_title, host and port to the settings file."
    )


def test_a_rule_with_a_wrong_name_is_told_the_right_ones(tmp_path: Path) -> None:
    rules = (Rule(name="night", destinations=("PASC",)),)

    assert (
        checks(tmp_path, rules=rules, destinations=(PACS,))["settings"].mend == "The destinations are: PACS."
    )


def test_a_rule_on_an_attribute_that_does_not_exist_is_wrong(tmp_path: Path) -> None:
    found = checks(tmp_path, rules=(Rule(name="night", tags={"StudyDescripton": "*"}),))["settings"]

    assert found.status == Status.WRONG
    assert "StudyDescripton" in found.message


@pytest.mark.parametrize(
    ("limits", "status"),
    [
        ({"disk_warn_bytes": 2**60, "disk_reject_bytes": 0}, Status.WARNING),
        ({"disk_reject_bytes": 2**60}, Status.WRONG),
    ],
)
def test_little_space_is_a_warning_and_too_little_is_wrong(
    tmp_path: Path, limits: dict[str, int], status: Status
) -> None:
    receiver = ReceiverSettings.model_validate({"host": "127.0.0.1", "port": 0, **limits})

    assert checks(tmp_path, receiver=receiver)["disk"].status == status


def test_tables_of_another_version_are_wrong_and_the_command_that_mends_them_is_named(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'lungnode.sqlite3'}")
    engine.connect().close()  # a database without tables
    engine.dispose()

    found = checks(tmp_path)["database"]

    assert (found.status, found.mend) == (Status.WRONG, "Run `lungnode db upgrade`.")


def test_a_database_that_cannot_be_reached_is_wrong(tmp_path: Path) -> None:
    found = checks(tmp_path, database_url=f"sqlite:///{tmp_path}/nowhere/lungnode.sqlite3")["database"]

    assert found.status == Status.WRONG
    assert "unavailable" in found.message


def test_a_broker_of_ones_own_is_asked_for_an_answer(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)

    with embedded_broker(settings):
        assert checks(tmp_path, broker_url=settings.broker)["broker"].status == Status.OK
    assert checks(tmp_path, broker_url=settings.broker)["broker"].status == Status.WRONG


def test_a_model_that_cannot_be_read_is_wrong(tmp_path: Path) -> None:
    found = checks(tmp_path, analysis={"model": tmp_path / "nothing"})["model"]

    assert found.status == Status.WRONG
    assert f"{tmp_path}/nothing" in found.message


def test_a_port_that_somebody_else_has_is_wrong(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        found = checks(tmp_path, receiver=ReceiverSettings(host="127.0.0.1", port=port))["receiver"]

    assert (found.status, found.message) == (Status.WRONG, f"127.0.0.1 port {port}: Address already in use.")


def test_a_destination_that_is_down_is_wrong_and_how_it_must_know_us_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    found = checks(tmp_path, destinations=(PACS.model_copy(update={"port": port}),))["destination PACS"]

    assert found.status == Status.WRONG
    assert "cannot be reached" in found.message
    assert found.mend.endswith("the peer must know us as LUNGNODE.")


@pytest.mark.parametrize(
    ("without", "changes", "status", "words"),
    [
        ((), {}, Status.OK, "It offers storage commitment. It must know LUNGNODE with our address"),
        ((), {"calling_ae_title": "OTHER"}, Status.WARNING, "call OTHER, which our receiver does not accept"),
        ((PUSH_MODEL,), {}, Status.OK, "It is asked by C-FIND."),
        ((), {"confirm": "query"}, Status.OK, "It is asked by C-FIND."),
        ((PUSH_MODEL,), {"confirm": "commitment"}, Status.WARNING, "It offers no way to confirm"),
        ((PUSH_MODEL, STUDY_ROOT_FIND), {}, Status.WARNING, "It offers no way to confirm"),
    ],
)
def test_what_a_destination_can_confirm_is_told(
    tmp_path: Path, without: tuple[str, ...], changes: dict[str, str], status: Status, words: str
) -> None:
    with archive(*without) as peer:
        to = DicomDestination(**(dict(PACS) | {"port": peer.port} | changes))
        found = checks(tmp_path, destinations=(to,))

    assert found["destination PACS"].status == Status.OK
    assert (found["confirmation PACS"].status, words in found["confirmation PACS"].message) == (status, True)


@pytest.mark.parametrize(
    ("known", "status", "words"),
    [
        ("LUNGNODE", Status.OK, "answers a C-ECHO"),
        ("OTHER", Status.WRONG, "calling AE title not recognized"),
    ],
)
def test_a_destination_is_asked_with_a_c_echo(tmp_path: Path, known: str, status: Status, words: str) -> None:
    entity = AE(ae_title="PACS")
    entity.require_calling_aet = [known]
    entity.add_supported_context("1.2.840.10008.1.1")
    entity.add_supported_context(Comprehensive3DSRStorage)
    server = entity.start_server(("127.0.0.1", 0), block=False)
    assert server is not None
    try:
        peer = PACS.model_copy(update={"port": server.server_address[1]})
        found = checks(tmp_path, destinations=(peer,))["destination PACS"]
    finally:
        server.shutdown()

    assert found.status == status
    assert words in found.message


def test_a_source_is_asked_with_a_c_find(tmp_path: Path) -> None:
    with (
        scripted_pacs(lambda _: matches()) as willing,
        scripted_pacs(lambda _: [(0xA900, None)]) as unwilling,
    ):
        sources = (
            willing.peer(name="one", timeout_s=30),
            unwilling.peer(name="two", query="patient_root", timeout_s=30),
        )
        found = checks(tmp_path, peers=sources)

    assert (found["source one"].status, found["source two"].status) == (Status.OK, Status.WRONG)
    assert "answered 0xA900 to a C-FIND" in found["source two"].message
    assert "Let LUNGNODE query there" in found["source two"].mend


def test_what_a_source_moves_must_be_accepted_here(tmp_path: Path) -> None:
    with scripted_pacs(lambda _: matches()) as pacs:
        known = pacs.peer(name="known", retrieve="move", timeout_s=30)
        stranger = pacs.peer(name="stranger", retrieve="move", calling_ae_title="AI_NODE", timeout_s=30)
        found = checks(tmp_path, peers=(known, stranger))

    assert found["retrieval from known"].status == Status.OK
    assert found["retrieval from stranger"].mend == 'Add "AI_NODE" to receiver.called_ae_titles.'


def test_what_is_wrong_makes_the_command_fail_and_json_stands_alone(tmp_path: Path) -> None:
    variable = {"LUNGNODE_ANALYSIS__MODEL": str(tmp_path / "nothing"), "LUNGNODE_RECEIVER__PORT": "0"}

    done = subprocess.run(
        command(tmp_path, "check", "--json"),
        env=variables(variable),
        capture_output=True,
        timeout=60,
        check=False,
    )

    found = json.loads(done.stdout)
    assert (done.returncode, found["ok"]) == (1, False)
    assert [each["name"] for each in found["checks"] if each["status"] == "wrong"] == ["model"]


def test_a_file_meets_the_first_rule_that_matches_and_what_follows_is_said(tmp_path: Path) -> None:
    path = phantom_study(tmp_path, slices=1, size=64).paths[0]
    ds = dcmread(path)
    ds.file_meta.SourceApplicationEntityTitle = "CT01"
    ds.file_meta.ReceivingApplicationEntityTitle = "LUNGNODE"
    ds.StudyDescription = "CT Thorax nativ"
    ds.save_as(path)
    rules = (
        Rule(name="other", calling_ae_title="MR*"),
        Rule(
            name="chest",
            calling_ae_title="CT*",
            tags={"StudyDescription": "*thorax*"},
            destinations=("PACS",),
        ),
        Rule(name="rest", analyse=False),
    )
    elsewhere = PACS.model_copy(update={"name": "ELSEWHERE"})

    found = rule_of(Settings(data=tmp_path, rules=rules, destinations=(PACS, elsewhere)), str(path))

    assert (found["rule"], found["analyse"], found["destinations"]) == ("chest", True, ["PACS"])


def test_a_study_that_is_neither_known_nor_a_file_is_said_so(tmp_path: Path) -> None:
    subprocess.run(
        command(tmp_path, "db", "upgrade"), env=variables(), check=True, timeout=60, capture_output=True
    )

    with pytest.raises(UnusableError, match=r"There is no study 1\.2\.3, and no such file"):
        rule_of(Settings(data=tmp_path), "1.2.3")


def test_the_active_model_and_its_shadow_are_named_and_a_broken_one_is_wrong(tmp_path: Path) -> None:
    engine = new_sqlite(Settings(data=tmp_path).database)
    registry = Registry(Bench(engine, tmp_path))
    active, shadow = registry.add(0.4), registry.add(0.6)
    registry.promote(active)
    registry.shadow(shadow)

    found = checks(tmp_path)
    assert (found["model"].status, found["shadow model"].status) == (Status.OK, Status.OK)
    assert f"candidate 0.4, SHA-256 {active.digest[:16]}" in found["model"].message
    assert f"candidate 0.6, SHA-256 {shadow.digest[:16]}" in found["shadow model"].message

    for model in (active, shadow):
        (registry.settings.models / model.path / MANIFEST_FILE).write_text("{}")
    broken = checks(tmp_path)
    engine.dispose()
    assert (broken["model"].status, broken["shadow model"].status) == (Status.WRONG, Status.WARNING)
    assert "lungnode models rollback" in broken["model"].mend


def test_a_web_that_sends_passwords_unencrypted_is_warned_of(tmp_path: Path) -> None:
    certificate = tmp_path / "chain.pem"
    open_to_all, behind_a_proxy, encrypted = (
        checks(tmp_path / "data", web=WebSettings(host="0.0.0.0", **values))["web"]  # noqa: S104 - looked at only
        for values in (
            {},
            {"trusted_proxies": ("10.0.0.1",)},
            {"certificate": certificate, "private_key": certificate},
        )
    )

    assert open_to_all.status == Status.WARNING
    assert "unencrypted" in open_to_all.message
    assert [behind_a_proxy.status, encrypted.status] == [Status.OK, Status.OK]
    assert encrypted.message.startswith("https://0.0.0.0:8080/")


def test_who_has_no_account_yet_is_told_how_to_make_one(tmp_path: Path) -> None:
    engine = new_sqlite(f"sqlite:///{tmp_path / 'lungnode.sqlite3'}")
    without = checks(tmp_path)["web"].message
    with transaction(engine) as session:
        add_account(session, "ada", Role.ADMIN, "", datetime.now(UTC))

    assert "lungnode users add NAME --role admin" in without
    assert checks(tmp_path)["web"].message == "http://127.0.0.1:8080/"
    engine.dispose()
