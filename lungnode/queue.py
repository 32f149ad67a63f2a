"""The Celery application and the names of its tasks.

The database is the queue (docs/architecture.md): a message only says "look at row n now". It may be lost or
come twice; the clerk sends it again and the row is claimed before work starts. So no ETA and no countdown.
"""

from typing import Final

from celery import Celery

from lungnode.settings import Settings

ANALYSIS_QUEUE: Final = "analysis"
DELIVERY_QUEUE: Final = "delivery"
ANALYSE_TASK: Final = "lungnode.analyse"  # argument: analyses.id
DELIVER_TASK: Final = "lungnode.deliver"  # argument: deliveries.id


def open_queue(settings: Settings) -> Celery:
    """Make the Celery application of these settings; nothing is connected yet."""
    app = Celery("lungnode", broker=settings.broker, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        task_routes={ANALYSE_TASK: {"queue": ANALYSIS_QUEUE}, DELIVER_TASK: {"queue": DELIVERY_QUEUE}},
        broker_connection_retry_on_startup=True,
        broker_transport_options={"socket_timeout": 5, "socket_connect_timeout": 5},
        worker_hijack_root_logger=False,
    )
    return app


def wake(app: Celery, task: str, row_id: int) -> None:
    """Tell a worker to look at a row now.

    Raises:
        kombu.exceptions.OperationalError: The broker is away; the clerk's next sweep tries again.
    """
    app.send_task(task, args=[row_id], retry=False)
