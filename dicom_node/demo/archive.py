"""A small archive (PACS) for the demonstration and for tests: C-ECHO, C-STORE, C-FIND, files in folders.

Objects are kept as they come, under ``STUDY/SERIES/INSTANCE.dcm``, on the disk before the success answer; a
second object with the same identifier replaces the first. Queries read the files. It trusts whoever can
reach it: not for a hospital.

Runs as a process of its own: ``python -m dicom_node.demo.archive FOLDER --port 11113``.
"""

import argparse
import os
import re
import secrets
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pydicom
from pydicom import Dataset
from pydicom.uid import AllTransferSyntaxes, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.transport import ThreadedAssociationServer

from dicom_node.intake.reading import MALFORMED

_VERIFICATION: Final = "1.2.840.10008.1.1"
_FIND: Final = ("1.2.840.10008.5.1.4.1.2.1.1", "1.2.840.10008.5.1.4.1.2.2.1")  # patient root, study root
_UID: Final = re.compile(r"[0-9.]{1,64}")
_OUT_OF_RESOURCES: Final = 0xA700
_CANNOT_UNDERSTAND: Final = 0xC000
_PENDING: Final = 0xFF00


class KeepingServer(ThreadedAssociationServer):
    """Closes the sockets that pynetdicom forgets: those whose peer left first."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._kept: list[socket.socket] = []
        super().__init__(*arguments, **named)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection and remember it."""
        request, address = super().get_request()
        self._kept = [*(one for one in self._kept if one.fileno() >= 0), request]
        return request, address

    def server_close(self) -> None:
        """Also close what was accepted."""
        super().server_close()
        for one in self._kept:
            one.close()


class Archive:
    """The archive; a context manager that listens while it is open.

    Parameters
    ----------
    folder : Path
        Made when it isn't there; what lies in it is found again.
    port : int
        0 takes a free one; `port` says which.
    ae_title, host : str
    """

    def __init__(
        self, folder: Path, *, port: int = 0, ae_title: str = "ARCHIVE", host: str = "127.0.0.1"
    ) -> None:
        self.folder = folder
        self.ae_title = ae_title
        folder.mkdir(parents=True, exist_ok=True)
        entity = AE(ae_title=ae_title)
        # pynetdicom counts a connection that asks for nothing as an association for half a minute.
        entity.maximum_associations = 100
        entity.add_supported_context(_VERIFICATION)
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(context.abstract_syntax or "", AllTransferSyntaxes)
        for model in _FIND:
            entity.add_supported_context(model, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        handlers: list[evt.EventHandlerType] = [
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_C_FIND, self._on_find),
        ]
        self._server = entity.make_server((host, port), evt_handlers=handlers, server_class=KeepingServer)
        entity._servers.append(self._server)  # noqa: SLF001 - `make_server` leaves this to its caller
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def files(self, sop_class: str | None = None) -> list[Path]:
        """What is stored, of one class or of all, in the order of the names."""
        found = sorted(self.folder.glob("*/*/*.dcm"))
        return [path for path in found if sop_class is None or _header(path).get("SOPClassUID") == sop_class]

    def _on_store(self, event: evt.Event) -> int:
        """Keep the object as it came."""
        try:
            dataset = event.dataset
            uids = [str(dataset[key].value) for key in ("StudyInstanceUID", "SeriesInstanceUID")]
            uids.append(str(dataset.SOPInstanceUID))
        except MALFORMED:
            return _CANNOT_UNDERSTAND
        if not all(_UID.fullmatch(uid) for uid in uids):  # they become names of files
            return _CANNOT_UNDERSTAND
        try:
            self._write(self.folder / uids[0] / uids[1] / f"{uids[2]}.dcm", event.encoded_dataset())
        except OSError:
            return _OUT_OF_RESOURCES
        return 0x0000

    def _write(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = self.folder / f".{secrets.token_hex(8)}"
        try:
            with aside.open("xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)

    def _on_find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        """Answer a query with one match for each entity of its level."""
        query = event.identifier
        level = str(query.get("QueryRetrieveLevel", "STUDY"))
        key = {"PATIENT": "PatientID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}.get(
            level, "StudyInstanceUID"
        )
        seen: set[str] = set()
        for path in self.files():
            header = _header(path)
            identity = str(header.get(key, ""))
            if identity not in seen and _matches(header, query):
                seen.add(identity)
                yield _PENDING, _projection(header, query, level)
        yield 0x0000, None


def _header(path: Path) -> Dataset:
    return pydicom.dcmread(path, stop_before_pixels=True)


def _matches(header: Dataset, query: Dataset) -> bool:
    """Single value and wild card matching of the query's text keys (PS3.4 C.2.2.2)."""
    for element in query:
        wanted = str(element.value or "")
        if element.keyword in ("QueryRetrieveLevel", "SpecificCharacterSet") or not wanted:
            continue
        have = str(header.get(element.keyword, ""))
        pattern = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in wanted)
        if not re.fullmatch(pattern, have):
            return False
    return True


def _projection(header: Dataset, query: Dataset, level: str) -> Dataset:
    answer = Dataset()
    for element in query:
        if element.keyword and element.keyword in header:
            answer[element.tag] = header[element.tag]
        elif element.keyword:
            answer[element.tag] = pydicom.DataElement(element.tag, element.VR, None)
    answer.QueryRetrieveLevel = level
    return answer


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; prints ``ready PORT`` when it listens."""
    parser = argparse.ArgumentParser(description="A small archive for the demonstration")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ae-title", default="ARCHIVE")
    options = parser.parse_args(arguments)
    done = threading.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, lambda *_: done.set())
    with Archive(options.folder, port=options.port, ae_title=options.ae_title) as archive:
        print(f"ready {archive.port}", flush=True)  # noqa: T201 - the parent process waits for it
        done.wait()


if __name__ == "__main__":
    main()
