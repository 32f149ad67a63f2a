"""The Celery application and the names of its tasks.

The database is the queue (docs/architecture.md): a message only says "look at row n now". It may be lost or
come twice; the clerk sends it again and the row is claimed before work starts. So no ETA and no countdown.
"""

import socket
from typing import Final

from celery import Celery
from kombu.exceptions import OperationalError

from lungnode.errors import UnavailableError
from lungnode.settings import Settings

ANALYSIS_QUEUE: Final = "analysis"
DELIVERY_QUEUE: Final = "delivery"
ANALYSE_TASK: Final = "lungnode.analyse"  # argument: analyses.id
DELIVER_TASK: Final = "lungnode.deliver"  # argument: deliveries.id
REPORT_TASK: Final = "lungnode.report"  # argument: commitment_requests.id
CONFIRM_TASK: Final = "lungnode.confirm"  # argument: confirmations.id
QUEUES: Final = {
    ANALYSE_TASK: ANALYSIS_QUEUE,
    DELIVER_TASK: DELIVERY_QUEUE,
    REPORT_TASK: DELIVERY_QUEUE,
    CONFIRM_TASK: DELIVERY_QUEUE,
}
# A worker only listens: without these (tcp(7)) it takes a minute to notice that its broker's host is gone.
_PATIENCE: Final = {
    socket.TCP_KEEPIDLE: 10,
    socket.TCP_KEEPINTVL: 5,
    socket.TCP_KEEPCNT: 4,
    socket.TCP_USER_TIMEOUT: 30_000,
}


def open_queue(settings: Settings) -> Celery:
    """Make the Celery application of these settings; nothing is connected yet."""
    app = Celery("lungnode", broker=settings.broker, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        # Taken is acknowledged: a late acknowledgement that a new broker never hears of fills the prefetch of
        # one for good, and the worker takes nothing more.
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        task_routes={task: {"queue": queue} for task, queue in QUEUES.items()},
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # a worker waits for its broker as long as it takes
        broker_transport_options={
            "socket_timeout": 5,
            "socket_connect_timeout": 5,
            "max_retries": 0,
            "socket_keepalive": True,
            "socket_keepalive_options": _PATIENCE,
        },
        worker_cancel_long_running_tasks_on_connection_loss=False,  # the row's lease is what holds the work
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
    )
    return app


def wake(app: Celery, task: str, row_id: int) -> None:
    """Tell a worker to look at a row now.

    Raises:
        UnavailableError: The broker is away; the clerk's next sweep tries again.
    """
    try:
        app.send_task(task, args=[row_id], retry=False)
    except OperationalError as error:
        raise UnavailableError(f"The broker does not take the message for row {row_id}: {error}.") from error
