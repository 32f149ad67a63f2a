"""Coded concepts of audit messages; a test checks each against pydicom's copy of PS3.16."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Code:
    """A coded concept; pydicom's own would load its whole dictionary into every program."""

    value: str
    scheme: str
    meaning: str


# What only Lungnode knows has codes of our own. Source: PS3.16 8, designators that begin with 99 are private.
OWN: Final = "99LUNGNODE"

# Source: PS3.16 CID 400, Audit Event ID.
APPLICATION_ACTIVITY: Final = Code("110100", "DCM", "Application Activity")
AUDIT_LOG_USED: Final = Code("110101", "DCM", "Audit Log Used")
BEGIN_TRANSFERRING: Final = Code("110102", "DCM", "Begin Transferring DICOM Instances")
INSTANCES_ACCESSED: Final = Code("110103", "DCM", "DICOM Instances Accessed")
INSTANCES_TRANSFERRED: Final = Code("110104", "DCM", "DICOM Instances Transferred")
STUDY_DELETED: Final = Code("110105", "DCM", "DICOM Study Deleted")
EXPORT: Final = Code("110106", "DCM", "Export")
IMPORT: Final = Code("110107", "DCM", "Import")
PATIENT_RECORD: Final = Code("110110", "DCM", "Patient Record")
PROCEDURE_RECORD: Final = Code("110111", "DCM", "Procedure Record")
QUERY: Final = Code("110112", "DCM", "Query")
SECURITY_ALERT: Final = Code("110113", "DCM", "Security Alert")
USER_AUTHENTICATION: Final = Code("110114", "DCM", "User Authentication")

# Source: PS3.16 CID 401 and 403, Audit Event Type Code and Security Alert Type Code.
APPLICATION_START: Final = Code("110120", "DCM", "Application Start")
APPLICATION_STOP: Final = Code("110121", "DCM", "Application Stop")
LOGIN: Final = Code("110122", "DCM", "Login")
LOGOUT: Final = Code("110123", "DCM", "Logout")
NODE_AUTHENTICATION: Final = Code("110126", "DCM", "Node Authentication")
SOFTWARE_CONFIGURATION: Final = Code("110131", "DCM", "Software Configuration")
RESTRICTED_FUNCTION: Final = Code("110132", "DCM", "Use of Restricted Function")
USER_ATTRIBUTES_CHANGED: Final = Code("110137", "DCM", "User Security Attributes Changed")

# Source: PS3.16 CID 402, Audit Active Participant Role ID Code.
APPLICATION: Final = Code("110150", "DCM", "Application")
APPLICATION_LAUNCHER: Final = Code("110151", "DCM", "Application Launcher")
DESTINATION: Final = Code("110152", "DCM", "Destination Role ID")
SOURCE: Final = Code("110153", "DCM", "Source Role ID")
DESTINATION_MEDIA: Final = Code("110154", "DCM", "Destination Media")
SOURCE_MEDIA: Final = Code("110155", "DCM", "Source Media")

# Source: PS3.16 CID 404 and 405, Audit Participant Object ID Type Code and Media Type Code.
STUDY_INSTANCE_UID: Final = Code("110180", "DCM", "Study Instance UID")
SOP_CLASS_UID: Final = Code("110181", "DCM", "SOP Class UID")
NODE_ID: Final = Code("110182", "DCM", "Node ID")
URI_MEDIA: Final = Code("110037", "DCM", "URI")

# Source: PS3.15 A.5.1.2.4, Participant Object ID Type Code.
PATIENT_NUMBER: Final = Code("2", "RFC-3881", "Patient Number")
USER_IDENTIFIER: Final = Code("11", "RFC-3881", "User Identifier")
URI: Final = Code("12", "RFC-3881", "URI")
