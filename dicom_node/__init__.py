"""The hospital's gateway: DICOM objects in, private inference, DICOM reports out."""
