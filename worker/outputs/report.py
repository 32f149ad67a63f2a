"""The Structured Report of an analysis.

Source: PS3.16 TID 1500 Measurement Report; PS3.3 A.35.13 Comprehensive 3D SR, A.35.3 Comprehensive SR,
A.35.2 Enhanced SR. The content is the same in all three.
"""

from collections.abc import Mapping, Sequence
from io import BytesIO

from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PersonObserverIdentifyingAttributes,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    TrackingIdentifier,
)
from highdicom.sr.enum import RelationshipTypeValues
from highdicom.sr.templates import LanguageOfContentItemAndDescendants
from highdicom.sr.value_types import TextContentItem
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from lungnode import codes
from lungnode.identifiers import derive_uid
from worker.outputs.evidence import UsedImage, hierarchical_reference, used_images
from worker.outputs.header import (
    MANUFACTURER,
    device_uid,
    header,
    instance_uid,
    kind_of,
    series_uid,
    with_file_meta,
)
from worker.outputs.library import image_library
from worker.outputs.source import decoded
from worker.outputs.wording import remarks, reported
from worker.result import Context, StudyFinding, Verdict

PRESENCE = {
    Verdict.POSITIVE: codes.PRESENT,
    Verdict.NEGATIVE: codes.ABSENT,
    Verdict.UNDETERMINED: codes.PRESENCE_UNDETERMINED,
}
# Four decimals are what a reader uses; hosts and runtimes differ in the digits behind them.
DECIMALS = 4


def compose_report(
    finding: StudyFinding, context: Context, sources: Mapping[str, Dataset], group: str = "sr"
) -> Dataset:
    """Return the report of a finding; `group` names its SOP class.

    Evidence is every image the finding stands on.
    """
    images = used_images(finding.slices, sources)
    source = images[0].source
    report = header(source, context, group, number=1, key=())
    if context.stated:
        report.SeriesDescription = f"{report.SeriesDescription}, corrected"
    report.update(content(finding, context, images))
    report.CompletionFlag = "COMPLETE"
    report.VerificationFlag = "UNVERIFIED"
    report.PreliminaryFlag = "PRELIMINARY"
    report.PerformedProcedureCodeSequence = []
    report.ReferencedPerformedProcedureStepSequence = []
    evidence = [(image.series_instance_uid, image.sop_class_uid, image.sop_instance_uid) for image in images]
    report.CurrentRequestedProcedureEvidenceSequence = hierarchical_reference(
        context.study_instance_uid, evidence
    )
    requests = referenced_requests(source, context)
    if requests:
        report.ReferencedRequestSequence = requests
    _name_predecessors(report, context, group)
    return with_file_meta(report)


def report_of_class(encoded: bytes, context: Context, group: str) -> Dataset:
    """Return an encoded report as an object of a group's class; its content is not encoded again."""
    report = dcmread(BytesIO(encoded))
    report.SOPClassUID = kind_of(group).sop_class_uid
    report.SOPInstanceUID = instance_uid(context, group)
    report.SeriesInstanceUID = series_uid(context, group)
    _name_predecessors(report, context, group)
    return with_file_meta(report)


def _name_predecessors(report: Dataset, context: Context, group: str) -> None:
    earlier = context.predecessors.get(group)
    if earlier:
        study = context.study_instance_uid
        report.PredecessorDocumentsSequence = hierarchical_reference(study, earlier)
    else:
        report.pop("PredecessorDocumentsSequence", None)


def content(finding: StudyFinding, context: Context, images: Sequence[UsedImage]) -> Dataset:
    """Return the root content item: TID 1500 and what a reader should know beside it."""
    tree: Dataset = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer(context)),
        procedure_reported=codes.CT_PROCEDURE,
        imaging_measurements=[_measurement_group(finding, context, images), *_reader_groups(context)],
        title=codes.MEASUREMENT_REPORT,
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(
            CodedConcept.from_code(codes.ENGLISH)
        ),
    )[0]
    tree.ContentSequence.insert(len(tree.ContentSequence) - 1, image_library(images))
    tree.ContentSequence.append(_text(codes.CONCLUSION, reported(finding, context)))
    for remark in remarks(finding, context):
        tree.ContentSequence.append(_text(codes.COMMENT, remark))
    return tree


def _text(name: Code, value: str) -> TextContentItem:
    return TextContentItem(name=name, value=value, relationship_type=RelationshipTypeValues.CONTAINS)


def observer(context: Context) -> ObserverContext:
    """Return who found it: the device that this model makes."""
    device = DeviceObserverIdentifyingAttributes(
        uid=device_uid(context),
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=context.model_name,
        serial_number=context.model_digest,
    )
    return ObserverContext(
        observer_type=CodedConcept.from_code(codes.DEVICE), observer_identifying_attributes=device
    )


def _measurement_group(
    finding: StudyFinding, context: Context, images: Sequence[UsedImage]
) -> MeasurementsAndQualitativeEvaluations:
    """Return the TID 1501 group; the finding is named only where it was looked for."""
    presence = PRESENCE.get(finding.verdict)
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(context),
        finding_type=codes.COVID_19 if presence else None,
        finding_sites=[FindingSite(anatomic_location=codes.LUNG)] if presence else None,
        algorithm_id=AlgorithmIdentification(
            name=context.model_name,
            version=context.model_version,
            parameters=_parameters(finding, context),
            manufacturer=MANUFACTURER,
        ),
        measurements=_measurements(finding) if presence else None,
        qualitative_evaluations=[_evaluation(finding.verdict)],
        source_images=[_source_image(image) for image in images],
    )


def _reader_groups(context: Context) -> list[MeasurementsAndQualitativeEvaluations]:
    """Return the TID 1501 group of what a reader says in a corrected report, behind the algorithm's.

    Source: PS3.16 TID 1002 and 1003; PS3.3 Table A.35.13-2, a container may have its own observer.
    """
    said = context.stated
    if said is None:
        return []
    uid = derive_uid("tracking", context.study_instance_uid, codes.COVID_19.value, said.reader)
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=uid, identifier=f"COVID-19, reader {said.reader}"),
        finding_type=codes.COVID_19,
        finding_sites=[FindingSite(anatomic_location=codes.LUNG)],
        qualitative_evaluations=[_evaluation(said.verdict)],
    )
    reader = ObserverContext(
        observer_type=CodedConcept.from_code(codes.PERSON),
        observer_identifying_attributes=PersonObserverIdentifyingAttributes(name=f"{said.reader}^"),
    )
    items = group[0].ContentSequence
    for place, item in enumerate(reader, start=2):  # behind the two of the tracking identifier
        items.insert(place, item)
    return [group]


def _parameters(finding: StudyFinding, context: Context) -> list[str]:
    """Return what decided the result beside name and version. Source: PS3.16 TID 4019, row 3."""
    told = [f"sha256={context.model_digest}", f"threshold={finding.threshold:.{DECIMALS}f}"]
    return [*told, f"runtime={context.runtime}"] if context.runtime else told


def _tracking(context: Context) -> TrackingIdentifier:
    # The same in each revision: it is the same observation of the same study.
    uid = derive_uid("tracking", context.study_instance_uid, codes.COVID_19.value)
    return TrackingIdentifier(uid=uid, identifier=f"{MANUFACTURER} COVID-19")


def _measurements(finding: StudyFinding) -> list[Measurement]:
    if finding.probability is None:
        return []
    values = ((codes.PROBABILITY, finding.probability), (codes.THRESHOLD, finding.threshold))
    return [Measurement(name=name, value=round(value, DECIMALS), unit=codes.RATIO) for name, value in values]


def _evaluation(verdict: Verdict) -> QualitativeEvaluation:
    if verdict in PRESENCE:
        return QualitativeEvaluation(name=codes.PRESENCE, value=PRESENCE[verdict])
    if verdict is Verdict.NOT_APPLICABLE:
        return QualitativeEvaluation(name=codes.ANALYSES, value=codes.NOT_ATTEMPTED)
    return QualitativeEvaluation(name=codes.SUMMARY, value=codes.NONE_SUCCEEDED)


def _source_image(image: UsedImage) -> SourceImageForMeasurementGroup:
    return SourceImageForMeasurementGroup(
        referenced_sop_class_uid=image.sop_class_uid,
        referenced_sop_instance_uid=image.sop_instance_uid,
        referenced_frame_numbers=list(image.frames) or None,
    )


def referenced_requests(source: Dataset, context: Context) -> list[Dataset]:
    """Return the requests that the study answers, as far as the source names them; none of a wrong order.

    Source: PS3.3 Table C.17-2, Referenced Request Sequence; all but Study Instance UID may be empty.
    """
    if "AccessionNumber" in context.corrected:
        return []
    asked = decoded(source, ("ReferencedRequestSequence", "RequestAttributesSequence"))
    found = asked.get("ReferencedRequestSequence") or asked.get("RequestAttributesSequence") or []
    study = decoded(source, ("AccessionNumber", "IssuerOfAccessionNumberSequence"))
    return [_request(item, study, context.study_instance_uid) for item in found]


def _request(asked: Dataset, study: Dataset, study_instance_uid: str) -> Dataset:
    item = Dataset()
    item.StudyInstanceUID = asked.get("StudyInstanceUID") or study_instance_uid
    item.AccessionNumber = asked.get("AccessionNumber") or study.get("AccessionNumber")
    for keyword in (
        "PlacerOrderNumberImagingServiceRequest",
        "FillerOrderNumberImagingServiceRequest",
        "RequestedProcedureID",
        "RequestedProcedureDescription",
    ):
        setattr(item, keyword, asked.get(keyword))
    for keyword in ("ReferencedStudySequence", "RequestedProcedureCodeSequence"):
        setattr(item, keyword, asked.get(keyword) or [])
    for keyword in (
        "IssuerOfAccessionNumberSequence",
        "OrderPlacerIdentifierSequence",
        "OrderFillerIdentifierSequence",
        "ReasonForTheRequestedProcedure",
        "ReasonForRequestedProcedureCodeSequence",
    ):
        value = asked.get(keyword) or study.get(keyword)
        if value:
            setattr(item, keyword, value)
    return item
