"""Coded concepts that our objects use; a test checks each against pydicom's copy of PS3.16.

Two look right and are not: 111047 is the probability of *cancer*, 111413 belongs to breast imaging.
"""

from typing import Final

from pydicom.sr.coding import Code

# Newer than pydicom's dictionary. Source: SNOMED CT, release of July 2020.
COVID_19: Final = Code("840539006", "SCT", "COVID-19")

# Source: PS3.16 Annex D, DICOM Controlled Terminology Definitions.
PROBABILITY: Final = Code("122157", "DCM", "Probability")
THRESHOLD: Final = Code("122411", "DCM", "Threshold Value")
PRESENCE: Final = Code("121052", "DCM", "Presence of property")
PRESENCE_UNDETERMINED: Final = Code("121059", "DCM", "Presence Undetermined")
SUMMARY: Final = Code("111017", "DCM", "CAD Processing and Findings Summary")
NONE_SUCCEEDED: Final = Code("111245", "DCM", "No algorithms succeeded; without findings")
ANALYSES: Final = Code("111065", "DCM", "Summary of Analyses")
NOT_ATTEMPTED: Final = Code("111225", "DCM", "Not Attempted")
TRACKING_UID: Final = Code("112040", "DCM", "Tracking Unique Identifier")
STUDY_INSTANCE_UID: Final = Code("110180", "DCM", "Study Instance UID")
COMMENT: Final = Code("121106", "DCM", "Comment")
OF_INTEREST: Final = Code("113000", "DCM", "Of Interest")
CONCLUSION: Final = Code("121077", "DCM", "Conclusion")
PERSON: Final = Code("121006", "DCM", "Person")
PERSON_NAME: Final = Code("121008", "DCM", "Person Observer Name")
DEVICE: Final = Code("121007", "DCM", "Device")
PROCESSING_EQUIPMENT: Final = Code("109102", "DCM", "Processing Equipment")
IMAGE_LIBRARY: Final = Code("111028", "DCM", "Image Library")
IMAGE_LIBRARY_GROUP: Final = Code("126200", "DCM", "Image Library Group")
IMAGING_MEASUREMENTS: Final = Code("126010", "DCM", "Imaging Measurements")
MEASUREMENT_REPORT: Final = Code("126000", "DCM", "Imaging Measurement Report")
MODALITY: Final = Code("121139", "DCM", "Modality")
COMPUTED_TOMOGRAPHY: Final = Code("CT", "DCM", "Computed Tomography")
FRAME_OF_REFERENCE: Final = Code("112227", "DCM", "Frame of Reference UID")
PIXEL_ROWS: Final = Code("110910", "DCM", "Pixel Data Rows")
PIXEL_COLUMNS: Final = Code("110911", "DCM", "Pixel Data Columns")
ROW_SPACING: Final = Code("111066", "DCM", "Vertical Pixel Spacing")
COLUMN_SPACING: Final = Code("111026", "DCM", "Horizontal Pixel Spacing")
SLICE_THICKNESS: Final = Code("112225", "DCM", "Slice Thickness")
POSITION_X: Final = Code("110901", "DCM", "Image Position (Patient) X")
POSITION_Y: Final = Code("110902", "DCM", "Image Position (Patient) Y")
POSITION_Z: Final = Code("110903", "DCM", "Image Position (Patient) Z")
CLASS_ACTIVATION: Final = Code("130402", "DCM", "Class activation")
SOURCE_IMAGE: Final = Code("121322", "DCM", "Source image for image processing operation")
SPATIAL_RESAMPLING: Final = Code("113085", "DCM", "Spatial resampling")
REJECTED_FOR_QUALITY: Final = Code("113001", "DCM", "Rejected for Quality Reasons")
REJECTED_FOR_SAFETY: Final = Code("113037", "DCM", "Rejected for Patient Safety Reasons")
INCORRECT_WORKLIST_ENTRY: Final = Code("113038", "DCM", "Incorrect Modality Worklist Entry")
RETENTION_EXPIRED: Final = Code("113039", "DCM", "Data Retention Policy Expired")

PRESENT: Final = Code("52101004", "SCT", "Present")
ABSENT: Final = Code("272519000", "SCT", "Absent")
LUNG: Final = Code("39607008", "SCT", "Lung structure")
CT_PROCEDURE: Final = Code("77477000", "SCT", "Computerized axial tomography")
SOURCE: Final = Code("260753009", "SCT", "Source")

# Source: PS3.16, units are UCUM's; an annotation in braces is a unit of 1.
RATIO: Final = Code("{0:1}", "UCUM", "range: 0:1")
MILLIMETRE: Final = Code("mm", "UCUM", "mm")
PIXELS: Final = Code("{pixels}", "UCUM", "Pixels")
NO_UNITS: Final = Code("1", "UCUM", "no units")
ENGLISH: Final = Code("en-US", "RFC5646", "English (United States)")
