from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from db import confirmations
from db.deliveries import list_deliveries, next_step
from db.models import Analysis, Confirmation, ConfirmationMethod, Delivery, Output, Study
from db.session import transaction
from db.work import Retry
from lungnode.commitment import Commitment, Reference

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
RETRY = Retry(max_attempts=3, backoff_s=5, backoff_max_s=60)
STORED = {"status": "0x0000", "meaning": "stored", "comment": "", "advice": "", "tries": 1}


def stored_delivery(session: Session) -> Delivery:
    """A delivery of two instances of a group that has three."""
    study = Study(study_instance_uid="1.2.3", created_at=NOON, changed_at=NOON)
    outputs = [
        Output(
            group="sc",
            sop_class_uid="1.2",
            sop_instance_uid=uid,
            series_instance_uid="1.2.4",
            path="",
            size=0,
            digest="",
        )
        for uid in ("1.1", "1.2", "1.3")
    ]
    analysis = Analysis(study=study, revision=1, created_at=NOON, due_at=NOON, outputs=outputs)
    delivery = Delivery(
        analysis=analysis, destination="PACS", group="sc", state="stored", due_at=NOON, created_at=NOON
    )
    delivery.instances = [STORED | {"sop_instance_uid": uid} for uid in ("1.1", "1.2")]
    session.add(delivery)
    session.flush()
    return delivery


def test_a_delivery_goes_from_stored_over_resent_to_committed(engine: Engine) -> None:
    with transaction(engine) as session:
        delivery = stored_delivery(session)
        confirmations.begin(session, delivery.id, ConfirmationMethod.COMMITMENT, NOON)
        session.flush()
        row_id = session.scalars(select(Confirmation.id)).one()
        confirmations.begin_transaction(session, row_id, "1.9.1", NOON)
        confirmations.begin_transaction(session, row_id, "1.9.2", NOON)

    with transaction(engine) as session:
        lost = Commitment("1.9.1", (Reference("1.2", "1.1"), Reference("1.2", "1.2", 0x0110)))
        assert confirmations.apply_report(session, lost, RETRY, NOON) == "resent"
        assert confirmations.apply_report(session, lost, RETRY, NOON) == "", "the same report again"

    with transaction(engine) as session:
        (delivery,) = list_deliveries(session)
        assert (delivery.state, delivery.due_at) == ("pending", NOON + timedelta(seconds=5))
        assert [record["meaning"] for record in delivery.instances] == ["stored", "again"]
        delivery.state, delivery.instances = "stored", [record | STORED for record in delivery.instances]
        confirmations.begin(session, delivery.id, ConfirmationMethod.COMMITMENT, NOON)

    with transaction(engine) as session:
        good = Commitment("1.9.2", (Reference("1.2", "1.1"), Reference("1.2", "1.2")))
        assert confirmations.apply_report(session, good, RETRY, NOON) == "confirmed"

    with transaction(engine) as session:
        (delivery,) = list_deliveries(session)
        assert (delivery.state, delivery.reason, next_step(delivery, 3)) == (
            "committed",
            "",
            "Confirmed by storage commitment.",
        )


def test_a_report_of_an_unknown_transaction_changes_nothing(engine: Engine) -> None:
    with transaction(engine) as session:
        stored_delivery(session)
        unknown = Commitment("1.9.9", (Reference("1.2", "1.1"),))

        assert confirmations.apply_report(session, unknown, RETRY, NOON) == ""
