"""Opening a bundle: bytes from the disk become checked values here and nowhere else.

Only names that the format knows are opened, never through a symbolic link; sizes are checked against the
format's limits and the manifest before anything is read, and what is used is what was hashed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from numpy.typing import NDArray

from secure_infer.bundle.card import Finding, check_model_card, parse_findings
from secure_infer.bundle.fields import Fields, parse_json
from secure_infer.bundle.manifest import (
    DEVELOPER_LIMITS,
    HOSPITAL_LIMITS,
    MANIFEST_LIMIT,
    SIGNATURE_BYTES,
    FileEntry,
    Manifest,
    public_seed,
    verify,
)
from secure_infer.bundle.parameters import unpack_parameters
from secure_infer.errors import BundleFormat, BundleMismatch
from secure_infer.files import read_bounded

if TYPE_CHECKING:
    from secure_infer.runtime.program import Program


@dataclass(frozen=True)
class InputCoding:
    """How the model's input units become the protocol's whole numbers: ``rint((p - offset) * scale)``."""

    scale: float
    offset: float


@dataclass(frozen=True, eq=False)
class HospitalBundle:
    """The half of a bundle that the hospital has; all of it is public.

    Attributes
    ----------
    path : Path
        The half's folder.
    bundle_id, digest : str
        Hexadecimal; the digest is the SHA-256 of the manifest and names this very version of the model.
    signer : str
        The public key that signed it, in hexadecimal.
    trusted : bool
        Whether `signer` was compared with a key that the caller trusts.
    program_json : str
        The public program, as both parties execute it.
    preprocessing, model_card, predictions : mapping
        As in the files of these names.
    findings : tuple of Finding
        In the order of the logits.
    input_coding : InputCoding
        From the preprocessing.
    """

    path: Path
    bundle_id: str
    digest: str
    signer: str
    trusted: bool
    created: str
    program_json: str
    preprocessing: Mapping[str, Any]
    findings: tuple[Finding, ...]
    model_card: Mapping[str, Any]
    predictions: Mapping[str, Any]
    input_coding: InputCoding
    hints_entry: FileEntry = field(repr=False)

    @classmethod
    def open(cls, path: Path | str, trusted_key: Ed25519PublicKey | None = None) -> "HospitalBundle":
        """Open and check everything but the hints, which `load_hints` reads and checks.

        Parameters
        ----------
        path : Path or str
            The bundle's folder (with ``hospital`` in it) or the half itself.
        trusted_key : Ed25519PublicKey, optional
            The key that must have signed it. With None damage is found but forgery isn't.

        Raises
        ------
        BundleFormat, BundleLimit, BundleSignature
            With the file that is wrong.
        """
        folder = _half(path, "hospital")
        raw = read_bounded(folder / "manifest.json", MANIFEST_LIMIT, BundleFormat)
        signature = read_bounded(folder / "manifest.sig", SIGNATURE_BYTES, BundleFormat)
        manifest = Manifest.parse(raw, "hospital")
        signer = manifest.signer or ""
        verify(raw, signature, signer, trusted_key.public_bytes_raw() if trusted_key else None)
        small = [name for name in HOSPITAL_LIMITS if name != "hints.bin"]
        content = {name: _read(folder, name, manifest.files[name]) for name in small}
        preprocessing = _mapping(content["preprocessing.json"], "preprocessing.json")
        card = _mapping(content["model_card.json"], "model_card.json")
        check_model_card(card)
        return cls(
            path=folder,
            bundle_id=manifest.bundle_id,
            digest=FileEntry.of(raw).sha256,
            signer=signer,
            trusted=trusted_key is not None,
            created=manifest.created,
            program_json=content["program.json"].decode("utf-8", "strict"),
            preprocessing=preprocessing,
            findings=parse_findings(content["findings.json"]),
            model_card=card,
            predictions=_mapping(content["predictions.json"], "predictions.json"),
            input_coding=check_preprocessing(preprocessing),
            hints_entry=manifest.files["hints.bin"],
        )

    @cached_property
    def program(self) -> "Program":
        """The parsed program."""
        return _program(self.program_json)

    @property
    def public_seed(self) -> bytes:
        """32 bytes from which both parties expand the common polynomials."""
        return public_seed(self.bundle_id)

    def load_hints(self) -> bytes:
        """Read the hints (some hundred megabytes) and check them against the signed manifest."""
        return _read(self.path, "hints.bin", self.hints_entry)


@dataclass(frozen=True, eq=False)
class DeveloperBundle:
    """The half of a bundle that never leaves the developer.

    Attributes
    ----------
    bundle_id, digest : str
        Those of the hospital's half.
    findings : tuple of Finding
        As in the hospital's half; their scales say how much noise a logit needs.
    parameters : mapping
        Step name to arrays; see `secure_infer.bundle.parameters.KINDS`.
    """

    path: Path
    bundle_id: str
    digest: str
    program_json: str
    findings: tuple[Finding, ...]
    parameters: Mapping[str, Mapping[str, NDArray[Any]]] = field(repr=False)
    secrets_entry: FileEntry = field(repr=False)

    @classmethod
    def open(cls, path: Path | str) -> "DeveloperBundle":
        """Open and check everything but the secrets, which `load_secrets` reads and checks.

        Raises
        ------
        BundleFormat, BundleLimit, BundleSignature
            With the file that is wrong.
        """
        folder = _half(path, "developer")
        raw = read_bounded(folder / "manifest.json", MANIFEST_LIMIT, BundleFormat)
        manifest = Manifest.parse(raw, "developer")
        program_json = _read(folder, "program.json", manifest.files["program.json"]).decode("utf-8", "strict")
        weights = _read(folder, "weights.npz", manifest.files["weights.npz"])
        findings = _read(folder, "findings.json", manifest.files["findings.json"])
        return cls(
            path=folder,
            bundle_id=manifest.bundle_id,
            digest=manifest.hospital_manifest or "",
            program_json=program_json,
            findings=parse_findings(findings),
            parameters=unpack_parameters(program_steps(program_json), weights),
            secrets_entry=manifest.files["secrets.bin"],
        )

    @cached_property
    def program(self) -> "Program":
        """The parsed program."""
        return _program(self.program_json)

    @property
    def public_seed(self) -> bytes:
        """32 bytes from which both parties expand the common polynomials."""
        return public_seed(self.bundle_id)

    def load_secrets(self) -> bytes:
        """Read the secrets that belong to the hints."""
        return _read(self.path, "secrets.bin", self.secrets_entry)

    def check_counterpart(self, hospital: HospitalBundle) -> None:
        """Raise `BundleMismatch` unless `hospital` is the other half of this bundle."""
        if hospital.digest != self.digest:
            raise BundleMismatch(
                "halves of the bundle",
                expected=f"digest {self.digest[:16]}...",
                got=f"{hospital.digest[:16]}...",
            )


def check_preprocessing(mapping: Mapping[str, Any]) -> InputCoding:
    """Check a preprocessing description and take out the input's coding."""
    # Imported here: the runtime's package imports this one.
    from secure_infer.runtime.preprocess import Preprocessing

    Preprocessing.from_mapping(mapping)
    fields = Fields(mapping, "preprocessing.json")
    scale = fields.number("input_scale", 1e-9, 1e9)
    return InputCoding(scale, fields.number("input_offset", -1e9, 1e9))


def program_steps(program_json: str) -> list[Mapping[str, Any]]:
    """``steps`` of a program, with no more checked than that each has a name and an operation."""
    top = Fields.of(parse_json(program_json.encode(), "program.json"), "program.json")
    steps = top.take("steps", list)
    for index, step in enumerate(steps):
        fields = Fields.of(step, f"program.json: step {index}")
        fields.text("op")
        fields.text("name")
    return steps


def _program(program_json: str) -> "Program":
    # Imported here: the runtime's package imports this one.
    from secure_infer.runtime.program import Program

    return Program.from_json(program_json)


def _half(path: Path | str, half: str) -> Path:
    folder = Path(path)
    if (folder / half).is_dir():
        folder = folder / half
        if folder.is_symlink():
            raise BundleFormat(f"{half} half", expected="a folder", got="a symbolic link")
    if not folder.is_dir():
        raise BundleFormat("bundle", expected=f"a folder with a {half} half", got=f"no folder {folder.name}")
    if not (folder / "manifest.json").exists():
        raise BundleFormat(f"{half} half", expected="a manifest.json", got="none")
    return folder


def _read(folder: Path, name: str, entry: FileEntry) -> bytes:
    limit = {**HOSPITAL_LIMITS, **DEVELOPER_LIMITS}[name]
    content = read_bounded(folder / name, min(limit, entry.size), BundleFormat)
    entry.check(name, content)
    return content


def _mapping(content: bytes, what: str) -> Mapping[str, Any]:
    value = parse_json(content, what)
    if not isinstance(value, dict):
        raise BundleFormat(what, expected="an object", got=type(value).__name__)
    return value
