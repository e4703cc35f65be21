"""Every error that `secure_infer` raises on purpose.

::

    SecureInferError            secure-infer
    +-- KeyFileError            keys
    |   +-- KeyFileExists       keys.exists
    |   +-- CertificateInvalid  keys.certificate
    +-- BundleError             bundle
    |   +-- BundleFormat        bundle.format
    |   +-- BundleLimit         bundle.limit
    |   +-- BundleSignature     bundle.signature
    |   +-- BundleExists        bundle.exists
    |   +-- BundleMismatch      bundle.mismatch
    +-- ProgramError            program
    +-- CompileError            compile
    |   +-- ModelUnreadable     compile.model
    |   +-- UnsupportedLayer    compile.layer
    |   +-- CalibrationError    compile.calibration
    |   +-- RangeError          compile.range
    |   +-- OptionError         compile.option
    +-- RuntimeFailure          runtime
        +-- PeerUnreachable     peer.unreachable
        +-- PeerRejected        peer.rejected
        +-- ProtocolError       peer.protocol
        +-- Timeout             peer.timeout
        +-- Cancelled           runtime.cancelled
        +-- InputRejected       input

A ``code`` is stable: programs may compare it. Messages read "what: expected X, got Y" and never contain
shares, keys, weights, pixels or anything that names a patient.
"""

from typing import ClassVar


class SecureInferError(Exception):
    """Root of the tree; catch this to catch all of them.

    Parameters
    ----------
    what : str
        The thing that was wrong, in a few words.
    expected, got : object, optional
        What was wanted and what was found, formatted with ``str``; None leaves that part out.
    """

    code: ClassVar[str] = "secure-infer"

    def __init__(self, what: str, *, expected: object = None, got: object = None) -> None:
        self.what = what
        self.expected = expected
        self.got = got
        parts = [f"expected {expected}"] if expected is not None else []
        parts += [f"got {got}"] if got is not None else []
        super().__init__(f"{what}: {', '.join(parts)}" if parts else what)


class KeyFileError(SecureInferError):
    """A key or certificate file can't be used."""

    code = "keys"


class KeyFileExists(KeyFileError):
    """A key would have been overwritten."""

    code = "keys.exists"


class CertificateInvalid(KeyFileError):
    """A certificate is expired, not yet valid, of the wrong kind or not signed by the expected authority."""

    code = "keys.certificate"


class BundleError(SecureInferError):
    """A model bundle can't be used."""

    code = "bundle"


class BundleFormat(BundleError):
    """A bundle's file is missing, malformed or contradicts another one."""

    code = "bundle.format"


class BundleLimit(BundleError):
    """A bundle's file is larger than any valid one."""

    code = "bundle.limit"


class BundleSignature(BundleError):
    """A bundle's signature or a file's digest doesn't hold, or the signer isn't the trusted one."""

    code = "bundle.signature"


class BundleExists(BundleError):
    """A bundle would have been overwritten."""

    code = "bundle.exists"


class BundleMismatch(BundleError):
    """Two halves, or the two parties, have different bundles."""

    code = "bundle.mismatch"


class ProgramError(SecureInferError):
    """A program (public description of a network) breaks a rule of the format."""

    code = "program"


class CompileError(SecureInferError):
    """A model can't be compiled; the message names the layer, the reason and what would help."""

    code = "compile"


class ModelUnreadable(CompileError):
    """The source isn't a model that one of the front ends can read."""

    code = "compile.model"


class UnsupportedLayer(CompileError):
    """A layer of the model has no counterpart in the protocol.

    Parameters
    ----------
    layer : str
        Name of the layer, led by the names of the models it is nested in.
    reason : str
        Why it can't be compiled.
    helps : str
        What the owner of the model can do about it.
    """

    code = "compile.layer"

    def __init__(self, layer: str, reason: str, helps: str) -> None:
        super().__init__(f"layer {layer!r} can't be compiled: {reason}; what would help: {helps}")
        self.layer = layer
        self.reason = reason
        self.helps = helps


class CalibrationError(CompileError):
    """The calibration images don't fit the model, or say nothing about its values."""

    code = "compile.calibration"


class RangeError(CompileError):
    """A value of the network can't be given a scale, a window or a ring."""

    code = "compile.range"


class OptionError(CompileError):
    """A compiler option lies outside its range."""

    code = "compile.option"


class RuntimeFailure(SecureInferError):
    """An inference, or the preparation of one, failed."""

    code = "runtime"


class PeerUnreachable(RuntimeFailure):
    """No connection to the other party could be made, or it broke; trying again may help."""

    code = "peer.unreachable"


class PeerRejected(RuntimeFailure):
    """One party refused the other: certificate, protocol version, budget or bundle."""

    code = "peer.rejected"


class ProtocolError(RuntimeFailure):
    """The other party sent something that no correct implementation sends."""

    code = "peer.protocol"


class Timeout(RuntimeFailure):
    """The other party was silent for longer than agreed."""

    code = "peer.timeout"


class Cancelled(RuntimeFailure):
    """The work was cancelled from this side."""

    code = "runtime.cancelled"


class InputRejected(RuntimeFailure):
    """An image doesn't have the shape or range that the bundle asks for."""

    code = "input"
