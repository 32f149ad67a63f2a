"""The web: pages for people, REST and DICOMweb for programs, numbers for Prometheus."""
