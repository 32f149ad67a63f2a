"""The sentences that a reader of our objects finds, in one place and in ASCII."""

import unicodedata
from typing import Final

from pydicom.dataset import Dataset
from pydicom.valuerep import PersonName

from worker.result import Context, SliceFinding, StudyFinding, Verdict

FINDING: Final = "COVID-19 pneumonia"
RESEARCH_NOTICE: Final = "Lungnode: research use only, not for diagnostic use"

_SPELLED: Final = str.maketrans({"°": " degrees", "ß": "ss"})

_CONCLUSIONS: Final = {
    Verdict.POSITIVE: f"Signs of {FINDING} found by the algorithm.",
    Verdict.NEGATIVE: f"No signs of {FINDING} found by the algorithm.",
    Verdict.UNDETERMINED: f"Presence of {FINDING} undetermined.",
    Verdict.NOT_APPLICABLE: "The study was not analysed: it is no axial CT of the chest.",
    Verdict.ERROR: "The analysis failed: no statement is made.",
}
_READ: Final = {
    Verdict.POSITIVE: f"Signs of {FINDING} seen by reader",
    Verdict.NEGATIVE: f"No signs of {FINDING} seen by reader",
    Verdict.UNDETERMINED: f"Presence of {FINDING} undetermined by reader",
}


def reported(finding: StudyFinding, context: Context) -> str:
    """Return the conclusion of a report; a corrected one has the reader's words before the algorithm's."""
    said = context.stated
    own = conclusion(finding)
    return f"Corrected: {_READ[said.verdict]} {said.reader}. {own}" if said else own


def conclusion(finding: StudyFinding) -> str:
    """Return the verdict in words, with its reason."""
    return " ".join(part for part in (_CONCLUSIONS[finding.verdict], plain(finding.reason)) if part)


def remarks(finding: StudyFinding, context: Context) -> list[str]:
    """Return what a reader should know of the input, the model and the use of this result."""
    said = [*_of_reader(context), f"Completeness of the study: {context.completeness or 'not known'}."]
    if finding.slices:
        said.append(f"Analysed: {slices_in_words(finding)}.")
    said += [plain(sentence) for sentence in finding.choice]
    said.append(model_line(context))
    said.append(f"Revision {context.revision} of the study.")
    if notice(context):
        said.append(f"{notice(context)}.")
    return [plain(sentence) for sentence in said]


def _of_reader(context: Context) -> list[str]:
    said = context.reading
    if said is None:
        return []
    if context.stated is None:  # the algorithm has spoken again since
        return [f"Report of revision {said.revision}, corrected: {_READ[said.verdict]} {said.reader}."]
    return [f"Remark of reader {said.reader}: {said.remark}"] if said.remark else []


def slices_in_words(finding: StudyFinding) -> str:
    """Return how many slices were analysed."""
    count = len(finding.slices)
    return "1 slice" if count == 1 else f"{count} slices"


def model_line(context: Context) -> str:
    """Return which model spoke."""
    return f"Model {context.model_name} version {context.model_version}, SHA-256 {context.model_digest}."


def notice(context: Context) -> str:
    """Return what is said of the use of the result; nothing for a product."""
    return RESEARCH_NOTICE if context.qualification == "RESEARCH" else ""


def image_name(item: SliceFinding, source: Dataset) -> str:
    """Return what viewers call this slice."""
    if item.frame is not None:
        return f"frame {item.frame}"
    number = source.get("InstanceNumber")
    return "" if number is None else f"image {number}"


def slice_title(item: SliceFinding, source: Dataset) -> str:
    """Return what is written on a slice's heatmap."""
    return f"COVID-19 probability of this slice {item.probability:.2f}   {image_name(item, source)}".rstrip()


def identification(patient: Dataset) -> str:
    """Return name, ID and birth date as far as the font on our images has their letters.

    It has ASCII alone: accents are dropped, and a name in another script gives way to the ID.
    """
    name = PersonName(str(patient.get("PatientName") or ""))
    parts = (
        ", ".join(part for part in (letters(name.family_name), letters(name.given_name)) if part),
        letters(str(patient.get("PatientID") or "")),
        letters(str(patient.get("PatientBirthDate") or "")),
    )
    return "   ".join(part for part in parts if part)


def letters(text: str) -> str:
    """Return `text` without accents; nothing when other than ASCII is left."""
    bare = _bare(text)
    return bare if bare.isascii() else ""


def plain(text: str) -> str:
    """Return `text` in ASCII, which every character set of a destination holds; accents are dropped."""
    return _bare(text.translate(_SPELLED)).encode("ascii", "replace").decode("ascii")


def _bare(text: str) -> str:
    return "".join(sign for sign in unicodedata.normalize("NFKD", text) if not unicodedata.combining(sign))
