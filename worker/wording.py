"""The sentences that a reader of our objects finds, in one place and in ASCII."""

from typing import Final

from worker.result import Context, StudyFinding, Verdict

FINDING: Final = "COVID-19 pneumonia"
RESEARCH_NOTICE: Final = "Research use only, not for diagnostic use"

_CONCLUSIONS: Final = {
    Verdict.POSITIVE: f"Signs of {FINDING} found by the algorithm.",
    Verdict.NEGATIVE: f"No signs of {FINDING} found by the algorithm.",
    Verdict.UNDETERMINED: f"Presence of {FINDING} undetermined.",
    Verdict.NOT_APPLICABLE: "The study was not analysed: it is no axial CT of the chest.",
    Verdict.ERROR: "The analysis failed: no statement is made.",
}


def conclusion(finding: StudyFinding) -> str:
    """Return the verdict in words, with its reason."""
    return " ".join(part for part in (_CONCLUSIONS[finding.verdict], plain(finding.reason)) if part)


def remarks(finding: StudyFinding, context: Context) -> list[str]:
    """Return what a reader should know of the input, the model and the use of this result."""
    said = [f"Completeness of the study: {context.completeness or 'not known'}."]
    if finding.slices:
        said.append(f"{len(finding.slices)} slices were analysed.")
    said += [plain(sentence) for sentence in finding.choice]
    said.append(model_line(context))
    said.append(f"Revision {context.revision} of the study.")
    if notice(context):
        said.append(f"{notice(context)}.")
    return [plain(sentence) for sentence in said]


def model_line(context: Context) -> str:
    """Return which model spoke."""
    return f"Model {context.model_name} version {context.model_version}, SHA-256 {context.model_digest}."


def notice(context: Context) -> str:
    """Return what is said of the use of the result; nothing for a product."""
    return RESEARCH_NOTICE if context.qualification == "RESEARCH" else ""


def plain(text: str) -> str:
    """Return `text` in ASCII, which every character set of a destination holds."""
    return text.encode("ascii", "replace").decode("ascii")
