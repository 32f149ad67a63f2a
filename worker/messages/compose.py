"""From a report to the message that a destination of its kind wants."""

from pydicom.dataset import Dataset

from lungnode.settings import FhirDestination, Hl7Destination
from worker.messages.diagnostic_report import compose_bundle
from worker.messages.oru import compose_oru
from worker.messages.told import read_report

MessageDestination = FhirDestination | Hl7Destination


def compose_message(
    report: Dataset, destination: MessageDestination, identifier: str, withdrawn: str = ""
) -> str:
    """Return the message, or with `withdrawn` the one that takes it back and says why.

    The same arguments give the same text.
    """
    told = read_report(report, withdrawn)
    match destination:
        case FhirDestination():
            return compose_bundle(told, destination)
        case Hl7Destination():
            return compose_oru(told, destination, identifier)
