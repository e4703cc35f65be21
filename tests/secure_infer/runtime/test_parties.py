"""Client and server of one model over TLS on loopback: answers, and every way in which they refuse."""

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from secure_infer import keys
from secure_infer.bundle import write_bundle
from secure_infer.errors import (
    BundleMismatch,
    Cancelled,
    CertificateInvalid,
    InputRejected,
    KeyFileError,
    PeerRejected,
    PeerUnreachable,
    ProtocolError,
    RuntimeFailure,
    SecureInferError,
    Timeout,
)
from secure_infer.runtime import Endpoint, HospitalClient, Limits
from secure_infer.runtime.hospital import Link
from tests.secure_infer.runtime.conftest import Site, assert_plausible
from tests.tiny import Made


def picture(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-40, 40, (8, 8)).astype(np.float32)


def native_code(error: BaseException) -> str:
    """The core's finer code behind an error."""
    assert error.__cause__ is not None
    code: str = error.__cause__.args[0]
    return code


def expect(kind: type[SecureInferError], code: str, endpoint: Endpoint, site: Site) -> SecureInferError:
    with pytest.raises(kind) as caught, HospitalClient(site.hospital, endpoint):
        pass
    assert type(caught.value) is kind
    assert native_code(caught.value) == code
    return caught.value


def test_answers_agree_with_the_reference_and_say_what_they_cost(site: Site, tiny_bundle: Made) -> None:
    server = site.serve()
    with HospitalClient(site.hospital, site.endpoint(server.port)) as client:
        client.prepare(2)
        assert client.tickets_ready == 2
        for seed in range(3):  # the third makes its own ticket
            answer = client.infer(picture(seed))
            assert_plausible(answer.logits, picture(seed), tiny_bundle.path)
            assert answer.findings == site.hospital.findings
            assert answer.timings is not None
            assert answer.timings.bytes_to_developer > 0 < answer.timings.bytes_to_hospital
            assert answer.timings.round_trips > 3
        assert client.tickets_ready == 0
        stats = client.stats()
        assert [step["op"] for step in stats["online"]["steps"]][:2] == ["input", "linear"]
    server.shutdown()
    assert site.codes("closed") == [""]
    assert len(site.codes("inferred")) == 3


def test_ot_engine_that_both_name_must_be_the_same_and_either_answers(site: Site, tiny_bundle: Made) -> None:
    server = site.serve(limits=Limits(ot_engine="ferret", timeout_s=60))
    error = expect(PeerRejected, "engine", site.endpoint(server.port, ot_engine="softspoken"), site)
    assert "engine: expected softspoken, got ferret" in str(error)
    for wanted in ("ferret", "auto"):
        endpoint = site.endpoint(server.port, ot_engine=wanted, timeout_s=60.0)
        with HospitalClient(site.hospital, endpoint) as client:
            assert_plausible(client.infer(picture(3)).logits, picture(3), tiny_bundle.path)
            assert client.link == Link("ferret")
    server.shutdown()
    assert site.codes("refused") == ["engine"]


def test_parties_with_different_numbers_of_threads_answer_and_a_senseless_number_is_refused(
    site: Site, tiny_bundle: Made
) -> None:
    server = site.serve(limits=Limits(threads=3, timeout_s=60))
    for threads in (1, 2):
        endpoint = site.endpoint(server.port, threads=threads)
        with HospitalClient(site.hospital, endpoint) as client:
            assert_plausible(client.infer(picture(4)).logits, picture(4), tiny_bundle.path)
    for threads in (0, 257):
        error = expect(RuntimeFailure, "threads", site.endpoint(server.port, threads=threads), site)
        assert str(error) == f"threads: expected 1 to 256, got {threads}"
        with pytest.raises(RuntimeFailure, match="threads: expected 1 to 256"):
            site.serve(limits=Limits(threads=threads))
    server.shutdown()


def test_ot_engine_that_nobody_names_is_chosen_by_the_measured_link(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    server = site.serve()
    client = HospitalClient(site.hospital, site.endpoint(server.port))
    assert client.link is None
    with caplog.at_level("INFO"), client:
        link = client.link
        # The network is small: what ferret sends to set itself up outweighs it on any link.
        assert link is not None
        assert link.ot_engine == "softspoken"
        assert link.bytes_per_second is not None
        assert link.bytes_per_second > 0
        assert link.round_trip_seconds is not None
    server.shutdown()
    logged = [vars(record)["link"] for record in caplog.records if "link" in vars(record)]
    assert logged == [asdict(link)]
    (connected,) = (event for event in site.events if event["event"] == "connected")
    assert {name: connected[name] for name in asdict(link)} == asdict(link)


def test_ot_engine_of_another_name_is_refused(site: Site) -> None:
    with (
        pytest.raises(SecureInferError, match="expected auto, softspoken, ferret"),
        HospitalClient(site.hospital, site.endpoint(1, ot_engine="telepathy")),
    ):
        pass


def test_image_that_does_not_fit_costs_no_ticket(site: Site) -> None:
    server = site.serve()
    with HospitalClient(site.hospital, site.endpoint(server.port)) as client:
        client.prepare()
        for wrong in (np.zeros((8, 9)), np.full((8, 8), np.nan), np.full((8, 8), 2.0**30)):
            with pytest.raises(InputRejected):
                client.infer(wrong.astype(np.float32))
        assert client.tickets_ready == 1
        client.infer(picture(0))


def test_unreachable_server_is_named(site: Site) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = expect(PeerUnreachable, "connect", site.endpoint(unused.getsockname()[1]), site)
    assert "127.0.0.1" in str(error)


def test_client_outside_of_its_block_is_not_connected(site: Site) -> None:
    client = HospitalClient(site.hospital, site.endpoint(1))
    with pytest.raises(PeerUnreachable):
        client.prepare()
    with pytest.raises(PeerUnreachable):
        client.infer(picture(0))


def test_other_bundle_is_refused_on_both_sides(
    site: Site, make_site: Callable[[Path, str], Site], tiny_bundle: Made, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "other.bundle", signing_key=tiny_bundle.key, **tiny_bundle.arguments)
    other = make_site(tmp_path / "other.bundle", "other")
    server = site.serve(bundle=other.developer)
    error = expect(BundleMismatch, "bundle", site.endpoint(server.port), site)
    assert str(error) == f"bundle: expected digest {site.hospital.digest}, got {other.hospital.digest}"
    server.shutdown()
    assert site.codes("refused") == ["bundle"]


def test_certificate_of_another_authority_is_refused(
    site: Site, make_site: Callable[[Path, str], Site], tiny_bundle: Made
) -> None:
    other = make_site(tiny_bundle.path, "other")
    server = site.serve()
    stranger = {**other.files("hospital"), "authority": site.authority}
    expect(PeerRejected, "certificate_refused", site.endpoint(server.port, **stranger), site)
    expect(PeerRejected, "certificate_authority", site.endpoint(server.port, authority=other.authority), site)
    server.shutdown()
    assert site.codes("refused") == ["certificate_authority", "certificate_refused"]


def expired(site: Site, role: keys.Role) -> dict[str, Path]:
    folder = site.folder / f"expired-{role}"
    request = keys.create_request(folder, role, "Too old", ["127.0.0.1"])
    # Clocks may differ by minutes, so it begins, and ends, a little before now.
    keys.sign_request(site.folder / "authority", request.public, role, folder / "old.pem", days=0)
    return {"certificate": folder / "old.pem", "key": request.private}


def test_expired_certificate_is_refused_on_either_side(site: Site) -> None:
    server = site.serve()
    error = expect(
        PeerRejected, "certificate_refused", site.endpoint(server.port, **expired(site, "hospital")), site
    )
    assert "CertificateExpired" in str(error)
    server.shutdown()
    assert site.codes("refused") == ["certificate_expired"]
    old = site.serve(credentials=site.credentials(**expired(site, "developer")))
    expect(PeerRejected, "certificate_expired", site.endpoint(old.port), site)


def test_certificate_with_another_name_or_fingerprint_is_refused(site: Site) -> None:
    server = site.serve()
    expect(PeerRejected, "certificate_name", site.endpoint(server.port, server_name="elsewhere.test"), site)
    wrong = site.endpoint(server.port, fingerprint="ab" * 32)
    expect(PeerRejected, "certificate_fingerprint", wrong, site)
    own = keys.fingerprint(keys.load_certificate(site.files("developer")["certificate"]))
    with HospitalClient(site.hospital, site.endpoint(server.port, fingerprint=own)) as client:
        assert client.is_open


def test_credentials_that_can_not_be_used_are_found_before_a_connection(site: Site, tmp_path: Path) -> None:
    with pytest.raises(KeyFileError):
        site.credentials(key=tmp_path / "nowhere.key").load()
    (tmp_path / "broken.key").write_text("-----BEGIN PRIVATE KEY-----\nsecretsecret\n")
    for other in (
        {"key": tmp_path / "broken.key"},
        {"authority": tmp_path / "broken.key"},
        {"fingerprints": ("12",)},
    ):
        with pytest.raises(CertificateInvalid) as caught:
            site.credentials(**other).load()
        assert "secretsecret" not in str(caught.value)


def test_budget_counts_images_across_restarts(site: Site, tmp_path: Path) -> None:
    limits = Limits(images_per_hospital=2, budget_file=tmp_path / "images", timeout_s=20)
    server = site.serve(limits=limits)
    with HospitalClient(site.hospital, site.endpoint(server.port)) as client:
        assert client.images_left == 2
        client.infer(picture(0))
    server.shutdown()
    again = site.serve(limits=limits)
    with HospitalClient(site.hospital, site.endpoint(again.port)) as client:
        assert client.images_left == 1
        client.infer(picture(0))
        with pytest.raises(PeerRejected) as caught:
            client.infer(picture(1))
        assert native_code(caught.value) == "budget"
    expect(PeerRejected, "budget", site.endpoint(again.port), site)


def test_session_that_failed_stays_closed_and_a_new_one_works(site: Site) -> None:
    first, second = site.serve(), site.serve()
    client = HospitalClient(site.hospital, site.endpoint(first.port))
    with client:
        client.prepare()
        first.shutdown()
        with pytest.raises(PeerUnreachable):
            client.infer(picture(0))
        assert (client.is_open, client.tickets_ready) == (False, 0)
        with pytest.raises(PeerUnreachable):
            client.ping()
    with HospitalClient(site.hospital, site.endpoint(second.port)) as client:
        client.infer(picture(0))


def test_hospitals_at_once_are_limited_and_answered(site: Site, tiny_bundle: Made) -> None:
    server = site.serve(limits=Limits(hospitals=2, timeout_s=20))
    endpoint = site.endpoint(server.port)
    answers: list[NDArray[np.float64]] = []

    def ask(client: HospitalClient) -> None:
        answers.append(client.infer(picture(1)).logits)

    with HospitalClient(site.hospital, endpoint) as one, HospitalClient(site.hospital, endpoint) as two:
        expect(PeerUnreachable, "busy", endpoint, site)
        threads = [threading.Thread(target=ask, args=[client]) for client in (one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answers) == 2
    for logits in answers:
        assert_plausible(logits, picture(1), tiny_bundle.path)


class Impostor:
    """Accepts one connection and says something, or nothing."""

    def __init__(self, says: bytes) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._socket.settimeout(60)
        self._says = says
        self.called = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        self.called.set()
        with connection:
            if self._says:
                connection.recv(4096)
                connection.sendall(self._says)
            while connection.recv(4096):
                pass

    def __enter__(self) -> "Impostor":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._socket.close()


def test_server_that_sends_garbage_is_no_party(site: Site) -> None:
    with Impostor(b"220 mail.example ESMTP\r\n") as impostor:
        expect(ProtocolError, "tls", site.endpoint(impostor.port), site)


def test_silent_server_times_out(site: Site) -> None:
    with Impostor(b"") as impostor:
        expect(Timeout, "timeout", site.endpoint(impostor.port, timeout_s=0.3), site)


def test_call_in_another_thread_can_be_cancelled(site: Site) -> None:
    server = site.serve()
    with HospitalClient(site.hospital, site.endpoint(server.port)) as client:
        client.cancel()
        with pytest.raises(Cancelled):
            client.infer(picture(0))
        assert not client.is_open


def test_ctrl_c_ends_a_wait(site: Site) -> None:
    code = (
        # Whoever runs the tests in the background of a script has Ctrl-C ignored, and children inherit that.
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import sys\n"
        "from pathlib import Path\n"
        "from secure_infer.bundle import HospitalBundle\n"
        "from secure_infer.runtime import Endpoint, HospitalClient\n"
        "bundle, port, *files = sys.argv[1:]\n"
        "named = dict(zip(('authority', 'certificate', 'key'), map(Path, files)))\n"
        "client = HospitalClient(\n"
        "    HospitalBundle.open(bundle), Endpoint(host='127.0.0.1', port=int(port), **named)\n"
        ")\n"
        "client.load()\n"
        "print('calling', flush=True)\n"
        "with client:\n"
        "    pass\n"
    )
    with Impostor(b"") as impostor:
        files = [str(path) for path in site.files("hospital").values()]
        command = [sys.executable, "-c", code, str(site.hospital.path), str(impostor.port), *files]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert child.stderr is not None
            assert child.stdout.readline() == "calling\n"
            assert impostor.called.wait(60)
            child.send_signal(signal.SIGINT)
            assert child.stderr.read().rstrip().endswith("KeyboardInterrupt")


def test_address_that_is_taken_is_named(site: Site) -> None:
    taken = site.serve().port
    with pytest.raises(RuntimeFailure, match=f"127.0.0.1:{taken}"):
        site._stack.enter_context(_server_on(site, taken))


def _server_on(site: Site, port: int) -> Any:
    from secure_infer.runtime import DeveloperServer

    return DeveloperServer(site.developer, f"127.0.0.1:{port}", site.credentials())


def test_nothing_secret_is_in_a_repr(site: Site) -> None:
    server = site.serve()
    assert repr(site.endpoint(server.port)).count("hospital.key") == 0
    with HospitalClient(site.hospital, site.endpoint(server.port)) as client:
        client.prepare()
        assert repr(client._session) == "<HospitalSession, open, 1 tickets>"
        assert repr(client._model).startswith("<HospitalModel, ")
    assert repr(site.credentials().load()) == "<Credentials, 0 pinned peers>"
