"""What our objects take over from the images they speak of: the patient and the study, value for value."""

import logging
import warnings
from collections.abc import Iterable, Mapping
from copy import deepcopy
from types import MappingProxyType
from typing import Final

from pydicom.charset import convert_encodings, decode_bytes, encode_string, python_encoding
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import CUSTOMIZABLE_CHARSET_VR, TEXT_VR_DELIMS, PersonName

log = logging.getLogger(__name__)

UTF_8: Final = "ISO_IR 192"

# Source: PS3.3 C.7.1.1, Patient Module.
PATIENT: Final = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "TypeOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "SourcePatientGroupIdentificationSequence",
    "GroupOfPatientsIdentificationSequence",
    "PatientBirthDate",
    "PatientBirthDateInAlternativeCalendar",
    "PatientDeathDateInAlternativeCalendar",
    "PatientAlternativeCalendar",
    "PatientSex",
    "ReferencedPatientPhotoSequence",
    "QualityControlSubject",
    "ReferencedPatientSequence",
    "PatientBirthTime",
    "OtherPatientIDs",  # retired, still sent
    "OtherPatientIDsSequence",
    "OtherPatientNames",
    "EthnicGroup",
    "EthnicGroupCodeSequence",
    "PatientComments",
    "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence",
    "PatientBreedDescription",
    "PatientBreedCodeSequence",
    "BreedRegistrationSequence",
    "StrainDescription",
    "StrainNomenclature",
    "StrainCodeSequence",
    "StrainAdditionalInformation",
    "StrainStockSequence",
    "GeneticModificationsSequence",
    "ResponsiblePerson",
    "ResponsiblePersonRole",
    "ResponsibleOrganization",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
)

# Source: PS3.3 C.7.2.1, General Study Module.
GENERAL_STUDY: Final = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "ReferringPhysicianIdentificationSequence",
    "ConsultingPhysicianName",
    "ConsultingPhysicianIdentificationSequence",
    "StudyID",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "StudyDescription",
    "PhysiciansOfRecord",
    "PhysiciansOfRecordIdentificationSequence",
    "NameOfPhysiciansReadingStudy",
    "PhysiciansReadingStudyIdentificationSequence",
    "RequestingService",
    "RequestingServiceCodeSequence",
    "ReferencedStudySequence",
    "ProcedureCodeSequence",
    "ReasonForPerformedProcedureCodeSequence",
)

# Source: PS3.3 C.7.2.2, Patient Study Module.
PATIENT_STUDY: Final = (
    "AdmittingDiagnosesDescription",
    "AdmittingDiagnosesCodeSequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientBodyMassIndex",
    "MeasuredAPDimension",
    "MeasuredLateralDimension",
    "PatientSizeCodeSequence",
    "MedicalAlerts",
    "Allergies",
    "SmokingStatus",
    "PregnancyStatus",
    "LastMenstrualDate",
    "PatientState",
    "Occupation",
    "AdditionalPatientHistory",
    "AdmissionID",
    "IssuerOfAdmissionIDSequence",
    "ServiceEpisodeID",
    "IssuerOfServiceEpisodeIDSequence",
    "ServiceEpisodeDescription",
    "PatientSexNeutered",
    "ReasonForVisit",
    "ReasonForVisitCodeSequence",
)

# Source: PS3.3 C.7.1.3 and C.7.2.3, Clinical Trial Subject and Clinical Trial Study Modules.
CLINICAL_TRIAL: Final = (
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "IssuerOfClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "OtherClinicalTrialProtocolIDsSequence",
    "ClinicalTrialSiteID",
    "IssuerOfClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "IssuerOfClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "IssuerOfClinicalTrialSubjectReadingID",
    "ClinicalTrialProtocolEthicsCommitteeName",
    "ClinicalTrialProtocolEthicsCommitteeApprovalNumber",
    "ClinicalTrialTimePointID",
    "IssuerOfClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
    "ClinicalTrialTimePointTypeCodeSequence",
    "LongitudinalTemporalOffsetFromEvent",
    "LongitudinalTemporalEventType",
    "ConsentForClinicalTrialUseSequence",
)

# Type 2 in the two modules that are mandatory: present and empty when the source has none.
REQUIRED: Final = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)


# Who a Patient ID belongs to, by other words: of another patient, once that is corrected.
_BESIDE_ID: Final = (
    "IssuerOfPatientID",
    "TypeOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "SourcePatientGroupIdentificationSequence",
    "GroupOfPatientsIdentificationSequence",
    "ReferencedPatientPhotoSequence",
    "ReferencedPatientSequence",
    "OtherPatientIDs",
    "OtherPatientIDsSequence",
    "OtherPatientNames",
)
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_BESIDE: Final = {"PatientID": _BESIDE_ID, "AccessionNumber": ("IssuerOfAccessionNumberSequence",)}


def patient_and_study(source: Dataset, corrected: Mapping[str, str] = _NOTHING) -> Dataset:
    """Return the source's patient and study attributes, decoded, without a character set.

    What cannot be decoded is left out, or empty where the Standard wants it present; absent stays absent.

    Args:
        source: An image of the study, as it came.
        corrected: What was corrected since, by keyword; empty: there is none.
    """
    copied = decoded(source, (*PATIENT, *GENERAL_STUDY, *PATIENT_STUDY, *CLINICAL_TRIAL))
    for keyword in REQUIRED:
        if keyword not in copied:
            copied.add_new(keyword, dictionary_VR(keyword), None)
    _correct(copied, corrected)
    return copied


def _correct(copied: Dataset, corrected: Mapping[str, str]) -> None:
    for keyword in corrected:
        for beside in _BESIDE.get(keyword, ()):
            copied.pop(beside, None)
    with disable_value_validation():  # what a peer or an operator says is their affair
        for keyword, value in corrected.items():
            if value or keyword in REQUIRED:
                copied.add_new(keyword, dictionary_VR(keyword), value or None)
            else:
                copied.pop(keyword, None)


def decoded(source: Dataset, keywords: Iterable[str]) -> Dataset:
    """Return a deep copy of these attributes of the source with all text decoded."""
    copied = Dataset()
    for keyword in keywords:
        tag = Tag(keyword)
        if tag in source:
            _copy_decoded(source, tag, copied)
    return copied


def _copy_decoded(source: Dataset, tag: BaseTag, target: Dataset) -> None:
    one = Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values against the Standard are the source's affair
        try:
            if "SpecificCharacterSet" in source:
                one.SpecificCharacterSet = source.SpecificCharacterSet
            one[tag] = deepcopy(source[tag])
            one.decode()
            _forget_encoding(one)
        except Exception as error:  # noqa: BLE001 - a damaged value raises anything, from struct.error on
            log.warning("attribute %s of %s is left out: %s", tag, source.get("SOPInstanceUID"), type(error))
            return
    target[tag] = one[tag]


def _forget_encoding(data_set: Dataset) -> None:
    """Turn names into plain text and drop nested character sets: the enclosing object's one applies."""
    data_set.pop("SpecificCharacterSet", None)
    for element in data_set:
        if element.VR == "SQ":
            for item in element.value:
                _forget_encoding(item)
        elif element.VR in CUSTOMIZABLE_CHARSET_VR and not element.is_empty:
            values = [_plain(value) for value in (element.value if element.VM > 1 else [element.value])]
            element.value = values if element.VM > 1 else values[0]


def _plain(value: object) -> str:
    # pydicom 3.0.2 leaves the escape sequences of ISO 2022 IR 58 in what it decoded.
    return str(value).replace("\x1b$)A", "")


def character_set(source: Dataset, data_set: Dataset) -> str | list[str] | None:
    """Return the source's Specific Character Set when all of `data_set` survives it, else ISO_IR 192.

    None is the default repertoire: then the attribute stays away.
    """
    wanted = source.get("SpecificCharacterSet")
    names = [wanted] if isinstance(wanted, str) else [str(name) for name in wanted or ()]
    if any(name not in python_encoding for name in names) or not _survives(data_set, names or ["ISO_IR 6"]):
        return UTF_8
    return (names[0] or None) if len(names) == 1 else names or None


def _survives(data_set: Dataset, names: list[str]) -> bool:
    """Tell whether all text comes back from its encoding as it was."""
    encodings = ["ascii"] if names in (["ISO_IR 6"], [""]) else convert_encodings(names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # pydicom warns and replaces where a letter has no code
        try:
            return all(_comes_back(element, encodings) for element in data_set.iterall())
        except (UserWarning, UnicodeError, LookupError):
            return False


def _comes_back(element: DataElement, encodings: list[str]) -> bool:
    values = element.value if element.VM > 1 else [element.value]
    if element.VR == "PN":
        return all(
            str(PersonName(PersonName(str(name)).encode(encodings), encodings)) == str(name)
            for name in values
        )
    if element.VR not in CUSTOMIZABLE_CHARSET_VR or element.is_empty:
        return True
    return all(
        decode_bytes(encode_string(str(value), encodings), encodings, TEXT_VR_DELIMS) == str(value)
        for value in values
    )
