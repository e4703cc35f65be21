"""A compiled model as two folders: what the hospital may see, and what never leaves the developer."""

from secure_infer.bundle.card import Code, Finding
from secure_infer.bundle.read import DeveloperBundle, HospitalBundle, InputCoding
from secure_infer.bundle.write import write_bundle

__all__ = ["Code", "DeveloperBundle", "Finding", "HospitalBundle", "InputCoding", "write_bundle"]
