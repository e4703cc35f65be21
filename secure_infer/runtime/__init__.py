"""Running programs: the program itself, the backends, and the two parties' services."""

from secure_infer.runtime.backends.reference import Observer, ReferenceBackend
from secure_infer.runtime.backends.secure import SecureBackend
from secure_infer.runtime.coding import Inference, Timings
from secure_infer.runtime.developer import DeveloperServer, Limits
from secure_infer.runtime.endpoint import Credentials, Endpoint
from secure_infer.runtime.hospital import HospitalClient
from secure_infer.runtime.program import Program

__all__ = [
    "Credentials",
    "DeveloperServer",
    "Endpoint",
    "HospitalClient",
    "Inference",
    "Limits",
    "Observer",
    "Program",
    "ReferenceBackend",
    "SecureBackend",
    "Timings",
]
