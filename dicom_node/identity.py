"""How this program names itself in DICOM (PS3.7 annex D.3.3.2, PS3.10 section 7.1)."""

#: Derived from a random UUID (PS3.5 annex B.2), fixed for good.
IMPLEMENTATION_CLASS_UID = "2.25.36666899533907937537857589337953678784"

#: At most 16 characters.
IMPLEMENTATION_VERSION_NAME = "BLINDREAD_0_1"
