"""Writing and opening a bundle: what comes back, what stays apart, what is refused."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secure_infer.bundle import DeveloperBundle, HospitalBundle, write_bundle
from secure_infer.bundle.fields import dump_json
from secure_infer.bundle.manifest import HOSPITAL_LIMITS, FileEntry
from secure_infer.errors import BundleError, BundleExists, BundleFormat, BundleMismatch, BundleSignature
from tests.tiny import Made


@pytest.fixture
def copy(tiny_bundle: Made, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle.path, tmp_path / "copy.bundle"))


def resign(folder: Path, key: Ed25519PrivateKey) -> None:
    """What a dishonest or careless signer could do: new digests and a valid signature over any content."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    for name in HOSPITAL_LIMITS:
        entry = FileEntry.of((folder / name).read_bytes())
        manifest["files"][name] = {"size": entry.size, "sha256": entry.sha256}
    manifest["signature"]["public_key"] = key.public_key().public_bytes_raw().hex()
    content = dump_json(manifest)
    (folder / "manifest.json").write_bytes(content)
    (folder / "manifest.sig").write_bytes(key.sign(content))


def test_hospital_half_comes_back_as_written(tiny_bundle: Made) -> None:
    bundle = HospitalBundle.open(tiny_bundle.path, tiny_bundle.key.public_key())
    assert bundle.trusted
    assert bundle.digest == tiny_bundle.digest
    assert bundle.program_json == tiny_bundle.arguments["program_json"]
    assert bundle.program.to_json() == tiny_bundle.arguments["program_json"]
    assert list(bundle.findings) == tiny_bundle.arguments["findings"]
    assert bundle.model_card == tiny_bundle.arguments["model_card"]
    assert bundle.predictions["comparisons"] == 4 * 8 * 8
    assert len(bundle.load_hints()) > 1000
    assert not HospitalBundle.open(tiny_bundle.path / "hospital").trusted


def test_developer_half_comes_back_as_written(tiny_bundle: Made) -> None:
    bundle = DeveloperBundle.open(tiny_bundle.path)
    hospital = HospitalBundle.open(tiny_bundle.path)
    bundle.check_counterpart(hospital)
    assert (bundle.bundle_id, bundle.public_seed) == (hospital.bundle_id, hospital.public_seed)
    for name, arrays in tiny_bundle.arguments["parameters"].items():
        for kind, array in arrays.items():
            np.testing.assert_array_equal(bundle.parameters[name][kind], array)
    assert len(bundle.load_secrets()) > 100


def test_no_weight_or_secret_is_in_the_hospital_half(tiny_bundle: Made) -> None:
    public = b"".join(path.read_bytes() for path in (tiny_bundle.path / "hospital").iterdir())
    developer = DeveloperBundle.open(tiny_bundle.path)
    secrets = developer.load_secrets()
    pieces = [secrets[i : i + 32] for i in range(0, len(secrets) - 32, 512)]
    for arrays in developer.parameters.values():
        pieces += [array.tobytes() for array in arrays.values() if array.nbytes >= 8]
        pieces += [json.dumps(array.ravel()[:8].tolist())[1:-1].encode() for array in arrays.values()]
    assert len(pieces) > 12
    assert not [piece for piece in pieces if piece in public]


def test_signing_key_is_in_neither_half(tiny_bundle: Made) -> None:
    private = tiny_bundle.key.private_bytes_raw()
    content = b"".join(path.read_bytes() for path in tiny_bundle.path.rglob("*") if path.is_file())
    assert private not in content
    assert private.hex().encode() not in content


def test_developer_half_is_for_its_owner_only(tiny_bundle: Made) -> None:
    assert (tiny_bundle.path / "developer").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tiny_bundle.path / "developer").iterdir()} == {0o600}


def test_two_bundles_of_one_model_share_neither_id_nor_seed_nor_secrets(
    tiny_bundle: Made, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "b", signing_key=tiny_bundle.key, **tiny_bundle.arguments)
    one, two = DeveloperBundle.open(tiny_bundle.path), DeveloperBundle.open(tmp_path / "b")
    assert one.bundle_id != two.bundle_id
    assert one.public_seed != two.public_seed
    assert one.load_secrets() != two.load_secrets()


@pytest.mark.parametrize("name", [*HOSPITAL_LIMITS, "manifest.json", "manifest.sig"])
def test_hospital_file_with_a_changed_byte_is_refused(copy: Path, name: str) -> None:
    path = copy / "hospital" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises((BundleSignature, BundleFormat)):
        HospitalBundle.open(copy).load_hints()


@pytest.mark.parametrize("name", ["program.json", "weights.npz", "secrets.bin"])
@pytest.mark.parametrize("damage", ["changed", "longer", "shorter", "missing", "link", "folder"])
def test_damaged_developer_file_is_refused(copy: Path, name: str, damage: str) -> None:
    path = copy / "developer" / name
    content = path.read_bytes()
    path.unlink()
    if damage == "changed":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "longer":
        path.write_bytes(content + b"\0")
    elif damage == "shorter":
        path.write_bytes(content[:-1])
    elif damage == "link":
        (copy / "elsewhere").write_bytes(content)
        path.symlink_to(copy / "elsewhere")
    elif damage == "folder":
        path.mkdir()
    with pytest.raises((BundleSignature, BundleFormat), match=name):
        DeveloperBundle.open(copy).load_secrets()


def test_bundle_of_an_unknown_signer_is_refused(copy: Path, tiny_bundle: Made) -> None:
    resign(copy / "hospital", Ed25519PrivateKey.generate())
    assert not HospitalBundle.open(copy).trusted
    with pytest.raises(BundleSignature, match="signer of the bundle"):
        HospitalBundle.open(copy, tiny_bundle.key.public_key())


def test_signature_by_another_key_than_named_is_refused(copy: Path) -> None:
    manifest = (copy / "hospital" / "manifest.json").read_bytes()
    (copy / "hospital" / "manifest.sig").write_bytes(Ed25519PrivateKey.generate().sign(manifest))
    with pytest.raises(BundleSignature, match=r"manifest\.sig"):
        HospitalBundle.open(copy)


def test_halves_of_two_bundles_do_not_match(copy: Path, tiny_bundle: Made) -> None:
    resign(copy / "hospital", tiny_bundle.key)
    (copy / "hospital" / "findings.json").write_bytes(b"[]")
    with pytest.raises(BundleSignature):
        HospitalBundle.open(copy)
    (copy / "hospital" / "findings.json").write_bytes(
        b'[{"name":"A","logit_scale":1,"threshold":0.1,"activation":"sigmoid"}]'
    )
    resign(copy / "hospital", tiny_bundle.key)
    with pytest.raises(BundleMismatch):
        DeveloperBundle.open(tiny_bundle.path).check_counterpart(HospitalBundle.open(copy))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("findings.json", b"{}"),
        ("findings.json", b'[{"name":"A"}]'),
        ("findings.json", b"[" * 5000 + b"]" * 5000),
        ("findings.json", b'[{"name":"A","logit_scale":NaN,"threshold":0.5,"activation":"sigmoid"}]'),
        ("findings.json", b'[{"name":"A","logit_scale":1,"threshold":1.5,"activation":"sigmoid"}]'),
        ("findings.json", b'[{"name":"A","logit_scale":1,"threshold":0.5,"activation":"exec"}]'),
        ("findings.json", b'[{"name":"A","name":"B","logit_scale":1,"threshold":0.5,"activation":"none"}]'),
        ("model_card.json", b"[]"),
        ("model_card.json", b'{"name":"x"}'),
        ("model_card.json", b"\xff"),
        ("preprocessing.json", b'{"height":0,"width":8}'),
        ("preprocessing.json", b'{"height":8,"width":8,"input_scale":1e300,"input_offset":0}'),
        ("predictions.json", b"3"),
    ],
)
def test_malformed_but_signed_content_is_refused(
    copy: Path, tiny_bundle: Made, name: str, content: bytes
) -> None:
    (copy / "hospital" / name).write_bytes(content)
    resign(copy / "hospital", tiny_bundle.key)
    with pytest.raises(BundleFormat, match=name.split(".")[0].removesuffix("s")):
        HospitalBundle.open(copy)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"format": "other"},
        {"half": "developer"},
        {"bundle_id": "../../../../../../../../../../xx"},
        {"files": {}},
        {"files": {"../../etc/passwd": {"size": 1, "sha256": "0" * 64}}},
        {"surprise": 1},
    ],
)
def test_manifest_of_another_form_is_refused(copy: Path, tiny_bundle: Made, change: dict[str, Any]) -> None:
    folder = copy / "hospital"
    manifest = json.loads((folder / "manifest.json").read_bytes()) | change
    content = dump_json(manifest)
    (folder / "manifest.json").write_bytes(content)
    (folder / "manifest.sig").write_bytes(tiny_bundle.key.sign(content))
    with pytest.raises(BundleFormat, match=r"manifest\.json"):
        HospitalBundle.open(copy)


def test_file_larger_than_the_manifest_says_is_refused_unread(copy: Path) -> None:
    with (copy / "hospital" / "hints.bin").open("ab") as file:
        os.truncate(file.fileno(), 1 << 40)  # sparse: reading it would take a terabyte
    with pytest.raises(BundleFormat, match=r"size of hints\.bin"):
        HospitalBundle.open(copy).load_hints()


def test_manifest_that_promises_more_than_the_limit_is_refused(copy: Path, tiny_bundle: Made) -> None:
    folder = copy / "hospital"
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"]["hints.bin"]["size"] = 1 << 40
    content = dump_json(manifest)
    (folder / "manifest.json").write_bytes(content)
    (folder / "manifest.sig").write_bytes(tiny_bundle.key.sign(content))
    with pytest.raises(BundleFormat, match="whole number from 0 to"):
        HospitalBundle.open(copy)


def test_half_that_is_a_link_is_refused(copy: Path, tmp_path: Path) -> None:
    (copy / "hospital").rename(tmp_path / "moved")
    (copy / "hospital").symlink_to(tmp_path / "moved")
    with pytest.raises(BundleFormat, match="symbolic link"):
        HospitalBundle.open(copy)


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_folder_without_a_bundle_is_refused(tmp_path: Path, name: str) -> None:
    for half in (HospitalBundle, DeveloperBundle):
        with pytest.raises(BundleFormat):
            half.open(tmp_path / name)


def test_existing_bundle_is_never_overwritten(copy: Path, tiny_bundle: Made) -> None:
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    with pytest.raises(BundleExists):
        write_bundle(copy, signing_key=tiny_bundle.key, **tiny_bundle.arguments)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "change",
    [
        {"findings": []},
        {"model_card": {}},
        {"preprocessing": {"height": 8}},
        {"parameters": {}},
        {"program_json": "{}"},
    ],
)
def test_refused_writing_leaves_nothing_behind(
    tiny_bundle: Made, tmp_path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(BundleError):
        write_bundle(tmp_path / "x.bundle", signing_key=tiny_bundle.key, **(tiny_bundle.arguments | change))
    assert list(tmp_path.iterdir()) == []


def test_interrupted_writing_leaves_nothing_behind(
    tiny_bundle: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_bundle(tmp_path / "x.bundle", signing_key=tiny_bundle.key, **tiny_bundle.arguments)
    assert list(tmp_path.iterdir()) == []
