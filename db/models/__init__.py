"""The tables."""

from db.models.accounts import Account, ApiToken, OidcFlow, Role, SignInFailure, WebSession
from db.models.alerts import Alert
from db.models.audit import AuditBatch, AuditEvent, ForwardState
from db.models.base import Base, UtcDateTime
from db.models.changes import Correction, Erasure, Withdrawal
from db.models.commitment import CommitmentRequest, CommitmentState, CommitmentStudy
from db.models.confirmation import (
    CommitmentTransaction,
    Confirmation,
    ConfirmationMethod,
    ConfirmationState,
)
from db.models.feedback import Agreement, Feedback
from db.models.idempotency import IdempotentWrite
from db.models.inquiries import Inquiry, InquiryKind, InquiryState
from db.models.jobs import Job, JobState
from db.models.labels import Label, LabelSource, LabelValue, TestSet, TestSetMember
from db.models.leadership import Leadership
from db.models.registry import ModelState, RegisteredModel, ShadowResult
from db.models.studies import (
    AssociationRecord,
    AssociationStudy,
    Disposition,
    Instance,
    Quarantined,
    Study,
    StudyState,
)
from db.models.uploads import Upload, UploadState
from db.models.work import UNFINISHED_ANALYSES, Analysis, AnalysisState, Delivery, DeliveryState, Output

__all__ = [
    "UNFINISHED_ANALYSES",
    "Account",
    "Agreement",
    "Alert",
    "Analysis",
    "AnalysisState",
    "ApiToken",
    "AssociationRecord",
    "AssociationStudy",
    "AuditBatch",
    "AuditEvent",
    "Base",
    "CommitmentRequest",
    "CommitmentState",
    "CommitmentStudy",
    "CommitmentTransaction",
    "Confirmation",
    "ConfirmationMethod",
    "ConfirmationState",
    "Correction",
    "Delivery",
    "DeliveryState",
    "Disposition",
    "Erasure",
    "Feedback",
    "ForwardState",
    "IdempotentWrite",
    "Inquiry",
    "InquiryKind",
    "InquiryState",
    "Instance",
    "Job",
    "JobState",
    "Label",
    "LabelSource",
    "LabelValue",
    "Leadership",
    "ModelState",
    "OidcFlow",
    "Output",
    "Quarantined",
    "RegisteredModel",
    "Role",
    "ShadowResult",
    "SignInFailure",
    "Study",
    "StudyState",
    "TestSet",
    "TestSetMember",
    "Upload",
    "UploadState",
    "UtcDateTime",
    "WebSession",
    "Withdrawal",
]
