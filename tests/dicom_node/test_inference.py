"""The door to the protocol: with the real developer's server, and with a client that fails on purpose."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dicom_node.config import InferenceSettings
from dicom_node.errors import (
    BundleUnusable,
    ImageRejected,
    InferenceError,
    PartyFaulty,
    PartyRejected,
    PartyTimeout,
    PartyUnreachable,
)
from dicom_node.inference import Client, SecureInference, prepare_image, translate
from dicom_node.steps import InferenceResult
from secure_infer import errors as theirs
from secure_infer import keys
from secure_infer.bundle import DeveloperBundle
from secure_infer.runtime import Credentials, DeveloperServer, Limits, ReferenceBackend
from secure_infer.runtime.coding import encode_image, interpret
from secure_infer.runtime.program import Program
from tests.tiny import Made

IMAGE = np.arange(64, dtype=np.float32).reshape(8, 8)


@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        (theirs.PeerUnreachable, PartyUnreachable, True),
        (theirs.Timeout, PartyTimeout, True),
        (theirs.ProtocolError, PartyFaulty, True),
        (theirs.Cancelled, PartyUnreachable, True),
        (theirs.PeerRejected, PartyRejected, False),
        (theirs.CertificateInvalid, PartyRejected, False),
        (theirs.BundleMismatch, BundleUnusable, False),
        (theirs.BundleSignature, BundleUnusable, False),
        (theirs.InputRejected, ImageRejected, False),
        (theirs.RuntimeFailure, InferenceError, False),
    ],
)
def test_error_is_translated_with_its_words(error: Any, kind: type[InferenceError], retryable: bool) -> None:
    ours = translate(error("thing", expected="this", got="that"))
    assert type(ours) is kind
    assert ours.retryable is retryable
    assert str(ours) == "thing: expected this, got that"


class Failing:
    """A client that fails as told, in order; None succeeds."""

    def __init__(self) -> None:
        self.script: list[Exception | None] = []
        self.log: list[str] = []
        self.tickets_ready = 0
        self.ticket_limit = 4

    def _next(self, call: str) -> None:
        self.log.append(call)
        failure = self.script.pop(0) if self.script else None
        if failure:
            raise failure

    def prepare(self, tickets: int) -> None:
        self._next("prepare")
        self.tickets_ready += tickets

    def infer(self, _image: Any) -> Any:
        self._next("infer")
        return SimpleNamespace(logits=[0.0, 1.0], probabilities=[0.5, 0.7])

    def ping(self) -> None:
        self._next("ping")

    def __enter__(self) -> "Failing":
        self._next("connect")
        return self

    def __exit__(self, *_: object) -> None:
        self.log.append("close")
        self.tickets_ready = 0


@pytest.fixture
def client() -> Failing:
    return Failing()


@pytest.fixture
def settings(tiny_bundle: Made, tmp_path: Path) -> InferenceSettings:
    nothing = tmp_path / "nothing"
    nothing.touch()
    return InferenceSettings(
        bundle=tiny_bundle.path / "hospital", host="localhost", port=1, authority=nothing,
        certificate=nothing, key=nothing, tickets=3,
    )  # fmt: skip


@pytest.fixture
def inference(settings: InferenceSettings, client: Failing) -> SecureInference:
    return SecureInference(settings, new_client=lambda *_: client)


def test_one_connection_serves_many_images(inference: SecureInference, client: Failing) -> None:
    for _ in range(3):
        assert [one.probability for one in inference.infer(IMAGE).findings] == [0.5, 0.7]
    assert client.log == ["connect", "infer", "infer", "infer"]


def test_pool_is_filled_to_the_configured_size_and_then_kept_awake(
    inference: SecureInference, client: Failing
) -> None:
    inference.fill_pool()
    inference.fill_pool()
    assert client.log == ["connect", "prepare", "prepare", "prepare", "ping", "ping"]


def test_pool_never_asks_for_more_than_the_party_allows(inference: SecureInference, client: Failing) -> None:
    client.ticket_limit = 1
    inference.fill_pool()
    assert client.log == ["connect", "prepare", "ping"]


def test_connection_lost_while_idle_is_made_again_for_the_same_image(
    inference: SecureInference, client: Failing
) -> None:
    client.script = [None, None, theirs.PeerUnreachable("gone")]
    inference.infer(IMAGE)
    inference.infer(IMAGE)
    assert client.log == ["connect", "infer", "infer", "close", "connect", "infer"]


def test_fresh_connection_that_breaks_is_reported_and_the_next_attempt_waits(
    inference: SecureInference, client: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("dicom_node.inference.time.monotonic", lambda: clock.now)
    client.script = [None, theirs.PeerUnreachable("gone")]
    with pytest.raises(PartyUnreachable, match="gone"):
        inference.infer(IMAGE)
    with pytest.raises(PartyUnreachable, match="expected a connection, got none; it is tried again in 1 s"):
        inference.infer(IMAGE)
    clock.now += 1.1
    client.script = [theirs.PeerUnreachable("still gone")]
    with pytest.raises(PartyUnreachable, match="still gone"):
        inference.infer(IMAGE)
    clock.now += 1.1
    with pytest.raises(PartyUnreachable, match="tried again in 1 s"):
        inference.infer(IMAGE)
    clock.now += 1.0
    inference.infer(IMAGE)
    assert client.log == ["connect", "infer", "close", "connect", "connect", "infer"]


def test_image_of_the_wrong_shape_keeps_connection_and_tickets(
    inference: SecureInference, client: Failing
) -> None:
    inference.fill_pool()
    client.script = [theirs.InputRejected("image")]
    with pytest.raises(ImageRejected):
        inference.infer(IMAGE)
    assert client.tickets_ready == 3
    assert "close" not in client.log


def test_failing_pool_is_logged_and_not_raised(
    inference: SecureInference, client: Failing, caplog: pytest.LogCaptureFixture
) -> None:
    client.script = [theirs.PeerRejected("certificate", expected="a valid one", got="an expired one")]
    inference.fill_pool()
    assert [record.message for record in caplog.records] == ["no ticket made"]
    assert caplog.records[0].code == "inference.rejected"  # type: ignore[attr-defined]


def test_image_does_not_wait_for_the_whole_pool(inference: SecureInference, client: Failing) -> None:
    inside, go = threading.Event(), threading.Event()
    prepare = client.prepare

    def slow(tickets: int) -> None:
        inside.set()
        assert go.wait(20)
        prepare(tickets)

    client.prepare = slow  # type: ignore[method-assign]
    filling = threading.Thread(target=inference.fill_pool)
    filling.start()
    assert inside.wait(20)
    asking = threading.Thread(target=inference.infer, args=(IMAGE,))
    asking.start()
    while not inference._image_waits.is_set():
        pass
    go.set()
    filling.join(20)
    asking.join(20)
    assert client.log == ["connect", "prepare", "infer"]


def test_close_ends_the_connection_once(inference: SecureInference, client: Failing) -> None:
    inference.infer(IMAGE)
    inference.close()
    inference.close()
    assert client.log == ["connect", "infer", "close"]


def test_bundle_of_an_untrusted_signer_is_refused(settings: InferenceSettings, tmp_path: Path) -> None:
    other = keys.create_signing_key(tmp_path / "other").public
    from dataclasses import replace

    with pytest.raises(BundleUnusable) as caught:
        SecureInference(replace(settings, trusted_key=other))
    assert not caught.value.retryable


def test_picture_that_does_not_fit_is_rejected() -> None:
    plan = {"height": 8, "width": 8, "channels": 1, "resample": "none", "intensity": {"source": "8bit"}}
    with pytest.raises(ImageRejected):
        prepare_image(np.zeros((9, 9), np.float32), plan)
    with pytest.raises(BundleUnusable):
        prepare_image(np.zeros((8, 8), np.float32), {"height": 8})


def test_result_survives_the_queue(inference: SecureInference) -> None:
    result = inference.infer(IMAGE)
    assert InferenceResult.from_json(result.to_json()) == result
    assert result.finished.tzinfo is not None


# With the real party


@pytest.fixture
def party(
    tiny_bundle: Made, tmp_path: Path
) -> Iterator[Callable[..., tuple[DeveloperServer, InferenceSettings]]]:
    authority = keys.create_authority(tmp_path / "ca", "Authority")
    own = keys.issue(
        tmp_path / "ca", tmp_path / "developer", "developer", "party", ["localhost", "127.0.0.1"]
    )
    hospital = keys.issue(tmp_path / "ca", tmp_path / "hospital", "hospital", "clinic")
    running: list[DeveloperServer] = []

    def start(port: int = 0, **limits: Any) -> tuple[DeveloperServer, InferenceSettings]:
        server = DeveloperServer(
            DeveloperBundle.open(tiny_bundle.path),
            f"127.0.0.1:{port}",
            Credentials(authority=authority.public, certificate=own.public, key=own.private),
            Limits(**limits),
        )
        running.append(server)
        settings = InferenceSettings(
            bundle=tiny_bundle.path, host="127.0.0.1", port=server.port, authority=authority.public,
            certificate=hospital.public, key=hospital.private, tickets=2, timeout_s=20.0,
        )  # fmt: skip
        return server, settings

    yield start
    for server in running:
        server.shutdown()


def expected_logits(made: Made, inference: SecureInference) -> tuple[Any, float]:
    """The exact logits, and six standard deviations of what the protocol's roundings make of them."""
    program = Program.from_json(made.arguments["program_json"])
    coded = encode_image(IMAGE, inference._bundle)
    backend = ReferenceBackend(program, made.arguments["parameters"])

    def logits(rng: np.random.Generator | None) -> Any:
        opened = backend.run(coded, rng=rng)
        return interpret([opened["logits"]], inference._bundle.findings, None).logits  # type: ignore[arg-type]

    exact = logits(None)
    rounded = [logits(np.random.default_rng(seed)) for seed in range(100)]
    return exact, 6 * float(np.std(rounded, axis=0).max())


def test_real_party_gives_the_models_answer_and_a_restarted_one_too(party: Any, tiny_bundle: Made) -> None:
    server, settings = party()
    inference = SecureInference(settings)
    inference.fill_pool()
    assert inference._client is not None
    assert inference._client.tickets_ready == 2
    first = inference.infer(IMAGE)
    wanted, tolerance = expected_logits(tiny_bundle, inference)
    assert tolerance < np.abs(wanted).max() / 4
    np.testing.assert_allclose(first.logits, wanted, atol=tolerance)
    assert first.bundle_digest == tiny_bundle.digest
    server.shutdown()
    party(port=server.port)
    second = inference.infer(IMAGE)
    np.testing.assert_allclose(second.logits, wanted, atol=tolerance)
    inference.close()


def test_absent_party_is_unreachable(party: Any) -> None:
    server, settings = party()
    server.shutdown()
    with pytest.raises(PartyUnreachable):
        SecureInference(settings).infer(IMAGE)


def test_client_type_is_what_the_runtime_offers() -> None:
    from secure_infer.runtime import HospitalClient

    offered: type[Client] = HospitalClient
    assert offered is HospitalClient
