"""Results as messages: what the report says, for systems that read no DICOM. Pure composition."""
