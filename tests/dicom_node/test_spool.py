"""Files that survive: full disks, crashes, two gateways."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.errors import ConfigError, NodeBusy, SpoolFull
from dicom_node.spool import Spool, remove_orphans

TARGET = Path("objects", "ab", "abc.dcm")


def test_file_is_there_whole_and_for_its_owner_only(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", "receive")
    assert spool.store(TARGET, [b"first ", memoryview(b"second")]) == TARGET
    assert (spool.root / TARGET).read_bytes() == b"first second"
    assert spool.root.stat().st_mode & 0o077 == 0
    assert list((spool.root / "incoming" / "receive").iterdir()) == []


def test_file_and_folders_are_synced_before_store_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "spool", "receive")
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append(name.relative_to(spool.root).as_posix() if name.name != "spool" else ".")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    spool.store(TARGET, [b"x"])
    assert synced[0].startswith("incoming/receive/")
    assert synced[1:] == ["objects", "objects/ab"]


def test_second_store_under_a_name_replaces_the_first(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "receive")
    spool.store(TARGET, [b"torn"])
    spool.store(TARGET, [b"whole"])
    assert (tmp_path / TARGET).read_bytes() == b"whole"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("call", ["fsync", "mkdir"])
def test_full_disk_is_said_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    spool = Spool(tmp_path, "receive")

    def full(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(SpoolFull, match="spool: expected room on the disk, got") as caught:
            spool.store(TARGET, [b"x"])
    assert caught.value.retryable
    assert not (tmp_path / TARGET).exists()
    assert list((tmp_path / "incoming" / "receive").iterdir()) == []


def test_other_trouble_is_not_called_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path, "receive")

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "of the test")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(OSError, match="of the test"):
            spool.store(TARGET, [b"x"])
    assert list((tmp_path / "incoming" / "receive").iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("a small file system can't be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_real_full_disk_refuses_then_takes_again(small_disk: Path) -> None:
    spool = Spool(small_disk / "spool", "receive")
    spool.store(Path("objects", "aa", "a.dcm"), [bytes(700_000)])
    with pytest.raises(SpoolFull):
        spool.store(Path("objects", "bb", "b.dcm"), [bytes(700_000)])
    assert list((spool.root / "incoming" / "receive").iterdir()) == []
    (spool.root / "objects" / "aa" / "a.dcm").unlink()
    spool.store(Path("objects", "bb", "b.dcm"), [bytes(700_000)])


def test_write_beyond_the_limit_for_files_is_said_as_full(tmp_path: Path) -> None:
    """A real failing write without a mount: the process's own limit."""
    script = (
        "import resource, sys; from pathlib import Path; from dicom_node.spool import Spool\n"
        "from dicom_node.errors import SpoolFull\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "spool = Spool(Path(sys.argv[1]), 'receive')\n"
        "try: spool.store(Path('objects', 'aa', 'a.dcm'), [bytes(500_000)])\n"
        "except SpoolFull: sys.exit(7)\n"
    )
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=environment, check=False)
    assert done.returncode == 7
    assert [one for one in tmp_path.rglob("*") if one.is_file()] == []


def test_low_space_refuses_before_writing(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "receive", low_space_bytes=1 << 60)
    assert not spool.has_room()
    with pytest.raises(SpoolFull, match=f"expected more than {1 << 60} bytes free, got less"):
        spool.store(TARGET, [b"x"])


def test_second_process_of_a_name_is_refused_and_another_name_is_not(tmp_path: Path) -> None:
    first, second, other = (Spool(tmp_path, name) for name in ("receive", "receive", "work"))
    refused = pytest.raises(NodeBusy, match="expected no other gateway, got another receive process")
    with first.take_over(wait_s=0), other.take_over(wait_s=0), refused:
        second.take_over(wait_s=0.1)
    second.take_over(wait_s=0).close()


def test_taking_over_clears_what_a_crash_left_and_only_ones_own(tmp_path: Path) -> None:
    receive, work = Spool(tmp_path, "receive"), Spool(tmp_path, "work")
    for name in ("receive", "work"):
        (tmp_path / "incoming" / name / "half").write_bytes(b"x")
    receive.take_over(wait_s=0).close()
    assert [one.parent.name for one in tmp_path.rglob("half")] == ["work"]
    work.take_over(wait_s=0).close()


def test_folder_that_cannot_be_made_is_a_matter_of_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="expected a folder that can be made, got Not a directory"):
        Spool(tmp_path / "file" / "spool", "receive")


def test_old_unknown_files_are_removed_and_known_or_young_ones_are_not(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "receive")
    names = [
        "objects/aa/known.dcm",
        "objects/aa/orphan.dcm",
        "objects/aa/young.dcm",
        "reports/1.dcm",
        "reports/2.dcm",
    ]
    for name in names:
        spool.store(Path(name), [b"x"])
        if "young" not in name:
            os.utime(tmp_path / name, (time.time() - 1000,) * 2)
    known = frozenset({"objects/aa/known.dcm", "reports/1.dcm"})
    assert remove_orphans(tmp_path, known, older_than_s=500) == 2
    left = {one.relative_to(tmp_path).as_posix() for one in tmp_path.rglob("*.dcm")}
    assert left == known | {"objects/aa/young.dcm"}
