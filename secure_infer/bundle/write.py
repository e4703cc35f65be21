"""Writing a bundle: two halves, whole or not at all, and nothing of the developer's in the hospital's."""

import hashlib
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secure_infer.bundle.card import Finding, check_findings, check_model_card
from secure_infer.bundle.fields import dump_json
from secure_infer.bundle.manifest import (
    DEVELOPER_LIMITS,
    HOSPITAL_LIMITS,
    FileEntry,
    Manifest,
    now_text,
    public_seed,
    sign,
)
from secure_infer.bundle.parameters import Parameters, pack_parameters
from secure_infer.bundle.read import check_preprocessing, program_steps
from secure_infer.errors import BundleExists, BundleFormat, BundleLimit
from secure_infer.files import PUBLIC_MODE, SECRET_MODE, sync_folder, write_new


def write_bundle(
    path: Path | str,
    *,
    program_json: str,
    parameters: Parameters,
    preprocessing: Mapping[str, Any],
    findings: Sequence[Finding],
    model_card: Mapping[str, Any],
    signing_key: Ed25519PrivateKey,
    predictions: Mapping[str, Any] | None = None,
) -> str:
    """Make the hints and write both halves; the bundle appears under `path` whole or not at all.

    Parameters
    ----------
    path : Path or str
        A name that is free, usually ``NAME.bundle``.
    program_json : str
        The public program.
    parameters : mapping
        The developer's arrays: step name to arrays, see `secure_infer.bundle.parameters.KINDS`.
    preprocessing, model_card, predictions : mapping
        As written to the files of these names. Without predictions they are computed from the program.
    findings : sequence of Finding
        One per logit.
    signing_key : Ed25519PrivateKey
        Signs the hospital's half; it is not written anywhere.

    Returns
    -------
    str
        The bundle digest, hexadecimal.

    Raises
    ------
    BundleExists
        When there is anything at `path`.
    BundleFormat
        When one of the parts is not as it should be.
    """
    target = Path(path)
    _require_free(target)
    check_findings(tuple(findings))
    check_model_card(model_card)
    check_preprocessing(preprocessing)
    weights_npz = pack_parameters(program_steps(program_json), parameters)
    bundle_id = secrets.token_bytes(16).hex()
    hints, tickets = _make_hints(program_json, parameters, public_seed(bundle_id))
    hospital = {
        "program.json": program_json.encode(),
        "preprocessing.json": dump_json(preprocessing),
        "findings.json": dump_json([finding.to_json() for finding in findings]),
        "model_card.json": dump_json(model_card),
        "predictions.json": dump_json(predictions if predictions is not None else _predict(program_json)),
        "hints.bin": hints,
    }
    developer = {
        "program.json": hospital["program.json"],
        "findings.json": hospital["findings.json"],
        "weights.npz": weights_npz,
        "secrets.bin": tickets,
    }
    _check_limits(hospital, HOSPITAL_LIMITS)
    _check_limits(developer, DEVELOPER_LIMITS)
    created = now_text()
    public = signing_key.public_key().public_bytes_raw().hex()
    public_manifest = Manifest("hospital", bundle_id, created, _entries(hospital), signer=public).to_bytes()
    digest = hashlib.sha256(public_manifest).hexdigest()
    hospital |= {"manifest.json": public_manifest, "manifest.sig": sign(public_manifest, signing_key)}
    developer["manifest.json"] = Manifest(
        "developer", bundle_id, created, _entries(developer), hospital_manifest=digest
    ).to_bytes()
    _write_whole(target, hospital, developer)
    return digest


def _make_hints(program_json: str, parameters: Parameters, seed: bytes) -> tuple[bytes, bytes]:
    from secure_infer import _native  # the compiled core; everything else here works without it

    try:
        return _native.make_hints(program_json, parameters, seed, threads=os.cpu_count() or 1)
    except _native.NativeError as failure:
        _code, message = failure.args
        raise BundleFormat(str(message)) from None


def _predict(program_json: str) -> Mapping[str, Any]:
    # Imported here: the runtime's package imports this one.
    from secure_infer.runtime.cost import predict
    from secure_infer.runtime.program import Program

    return predict(Program.from_json(program_json)).to_json()


def _entries(files: Mapping[str, bytes]) -> dict[str, FileEntry]:
    return {name: FileEntry.of(content) for name, content in files.items()}


def _check_limits(files: Mapping[str, bytes], limits: Mapping[str, int]) -> None:
    if set(files) != set(limits):
        raise BundleFormat("files of the bundle", expected=sorted(limits), got=sorted(files))
    for name, content in files.items():
        if len(content) > limits[name]:
            raise BundleLimit(f"size of {name}", expected=f"at most {limits[name]} bytes", got=len(content))


def _require_free(target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise BundleExists(str(target), expected="a name that is free", got="something")


def _write_whole(target: Path, hospital: Mapping[str, bytes], developer: Mapping[str, bytes]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.parent / f".{target.name}.{secrets.token_hex(8)}"
    draft.mkdir(mode=0o755)
    try:
        _write_half(draft / "hospital", hospital, PUBLIC_MODE, 0o755)
        _write_half(draft / "developer", developer, SECRET_MODE, 0o700)
        sync_folder(draft)
        _require_free(target)
        draft.rename(target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    sync_folder(target.parent)


def _write_half(folder: Path, files: Mapping[str, bytes], mode: int, folder_mode: int) -> None:
    folder.mkdir(mode=folder_mode)
    for name, content in files.items():
        write_new(folder / name, content, mode)
    sync_folder(folder)
