"""Rejection notes as a PACS writes them, attribute by attribute after the Standard."""

from collections.abc import Sequence

from pydicom import Dataset
from pydicom.uid import UID, KeyObjectSelectionDocumentStorage

from tests.spooling import STUDY

TITLES = {
    "113001": "Rejected for Quality Reasons",
    "113037": "Rejected for Patient Safety Reasons",
    "113038": "Incorrect Modality Worklist Entry",
    "113039": "Data Retention Policy Expired",
}


def note(code: str, rejected: Sequence[Dataset], study: str = STUDY, number: int = 1) -> Dataset:
    """A Key Object Selection that rejects instances. Source: PS3.3 A.35.4, IHE RAD TF-2 4.66."""
    ds = Dataset()
    ds.SOPClassUID = KeyObjectSelectionDocumentStorage
    ds.SOPInstanceUID = UID(f"{study}.77.{number}")
    ds.StudyInstanceUID = UID(study)
    ds.SeriesInstanceUID = UID(f"{study}.77")
    ds.Modality = "KO"
    ds.PatientName = "Doe^Jane"
    ds.PatientID = "4711"
    ds.ConceptNameCodeSequence = [_coded(code)]
    ds.CurrentRequestedProcedureEvidenceSequence = [_evidence(rejected, study)]
    return ds


def _coded(code: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = (
        code,
        "DCM",
        TITLES.get(code, "Of Interest"),
    )
    return item


def _evidence(rejected: Sequence[Dataset], study: str) -> Dataset:
    evidence, series = Dataset(), Dataset()
    evidence.StudyInstanceUID = UID(study)
    series.SeriesInstanceUID = UID(f"{study}.1")
    series.ReferencedSOPSequence = []
    for one in rejected:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.SOPClassUID, one.SOPInstanceUID
        series.ReferencedSOPSequence.append(item)
    evidence.ReferencedSeriesSequence = [series]
    return evidence
