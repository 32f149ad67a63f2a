"""De-identification of CT images by PS3.15's Basic Application Level Confidentiality Profile."""
