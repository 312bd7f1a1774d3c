"""Folders to write to are tried before the work, and what is wrong is said in words."""

import errno
import os
import stat
from contextlib import contextmanager
from pathlib import Path

import pytest

from qtarget.disk import place
from qtarget.disk.os_errors import os_error_in_words
from qtarget.disk.place import check_place


def refused(folder) -> str:
    with pytest.raises(ValueError, match=r"write|name a folder") as error:
        check_place(folder, f"`--out {folder}`")
    assert "Errno" not in str(error.value)
    return str(error.value)


def test_a_folder_that_can_be_made_is_neither_made_nor_touched(tmp_path):
    check_place(tmp_path / "a" / "b", "`--out`")
    check_place(tmp_path, "`--out`")
    assert os.listdir(tmp_path) == []


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("")
    assert refused(tmp_path / "file") == f"`--out {tmp_path}/file` is a file; write `--out {tmp_path}/file-2`."
    below = refused(tmp_path / "file" / "a" / "b")
    assert below == f"`--out {tmp_path}/file/a/b` cannot be made, as {tmp_path}/file is a file; write `--out b`."


def test_links(tmp_path):
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    (tmp_path / "itself").symlink_to(tmp_path / "itself")
    assert "is a link to nothing" in refused(tmp_path / "nowhere")
    assert "is a link to nothing" in refused(tmp_path / "itself" / "a")
    (tmp_path / "real").mkdir()
    (tmp_path / "there").symlink_to(tmp_path / "real")
    check_place(tmp_path / "there" / "new", "`--out`")


def test_names_that_no_file_system_takes(tmp_path):
    assert "longer than this file system takes" in refused(tmp_path / ("a" * 300) / "b")
    assert "null character" in refused(tmp_path / "a\0b")


def test_places_that_are_not_for_writing():
    refused(place.Path("/proc/none"))
    refused(place.Path("/dev/null/x"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_elses(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert "no permission" in refused(tmp_path / "a")
    finally:
        tmp_path.chmod(stat.S_IRWXU)


def test_a_full_disk(tmp_path, monkeypatch):
    """As the system says it: no test can fill a disk here."""

    class Full:
        def __init__(self, dir):
            pass

        def __enter__(self):
            raise OSError(errno.ENOSPC, "No space left on device")

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(place.tempfile, "TemporaryFile", Full)
    assert f"{tmp_path}: the disk is full; make room" in refused(tmp_path / "new")


def test_errors_of_the_system_are_sentences():
    full = OSError(errno.ENOSPC, "No space left on device", "out/model")
    assert os_error_in_words(full).startswith("out/model: the disk is full; make room")
    assert "Errno" not in os_error_in_words(OSError(errno.EEXIST, "File exists", "out"))
    assert os_error_in_words(OSError("qwen is no model on the hub")) == "qwen is no model on the hub"


@contextmanager
def without_rights():
    """The block runs as somebody who is not the system's owner."""
    is_root = os.geteuid() == 0
    try:
        if is_root:
            os.seteuid(65534)
        yield
    finally:
        if is_root:
            os.seteuid(0)


@pytest.mark.skipif(os.name != "posix", reason="other permissions")
def test_what_is_not_permitted_is_told_apart(tmp_path, monkeypatch):
    """A file that cannot be read is no place to write to."""
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o755)
    for name in ("closed", "open"):
        Path(name).mkdir()
        Path(name, "rows.jsonl").write_text("{}", encoding="utf-8")
    Path("open").chmod(0o555)
    Path("open/rows.jsonl").chmod(0o000)
    Path("closed").chmod(0o000)
    said = {}
    with without_rights():
        for name, mode in (("open/rows.jsonl", "r"), ("open/new", "w"), ("closed/rows.jsonl", "r")):
            with pytest.raises(PermissionError) as refused:
                Path(name).open(mode)  # noqa: SIM115
            said[name] = os_error_in_words(refused.value)
    for name in ("closed", "open"):
        Path(name).chmod(0o755)
    assert said["open/rows.jsonl"].startswith("open/rows.jsonl: you have no permission to read it; ask its owner")
    assert said["open/new"].startswith("open/new: you have no permission to write there; write another path, or change")
    assert "you have no permission to look into " in said["closed/rows.jsonl"]
    assert "another path" not in said["closed/rows.jsonl"] + said["open/rows.jsonl"]
