"""Folders to write to are tried before the work, and what is wrong is said in words."""

import errno
import os
import stat

import pytest

from qtarget.disk import places
from qtarget.disk.os_errors import os_error_in_words
from qtarget.disk.places import check_place


def refused(folder) -> str:
    with pytest.raises(ValueError, match="write another `--out`") as error:
        check_place(folder, f"`--out {folder}`", "write another `--out`")
    assert "Errno" not in str(error.value)
    return str(error.value)


def test_a_folder_that_can_be_made_is_neither_made_nor_touched(tmp_path):
    check_place(tmp_path / "a" / "b", "`--out`", "write another")
    check_place(tmp_path, "`--out`", "write another")
    assert os.listdir(tmp_path) == []


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "a" / "b"):
        assert f"{tmp_path / 'file'}: a part of the path is a file" in refused(folder)


def test_links(tmp_path):
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    (tmp_path / "itself").symlink_to(tmp_path / "itself")
    refused(tmp_path / "nowhere")
    refused(tmp_path / "itself" / "a")
    (tmp_path / "real").mkdir()
    (tmp_path / "there").symlink_to(tmp_path / "real")
    check_place(tmp_path / "there" / "new", "`--out`", "write another")


def test_names_that_no_file_system_takes(tmp_path):
    assert "longer than this file system takes" in refused(tmp_path / ("a" * 300) / "b")
    assert "null character" in refused(tmp_path / "a\0b")


def test_places_that_are_not_for_writing():
    refused(places.Path("/proc/none"))
    refused(places.Path("/dev/null/x"))


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

    monkeypatch.setattr(places.tempfile, "TemporaryFile", Full)
    assert f"{tmp_path}: the disk is full; make room" in refused(tmp_path / "new")


def test_errors_of_the_system_are_sentences():
    full = OSError(errno.ENOSPC, "No space left on device", "out/model")
    assert os_error_in_words(full).startswith("out/model: the disk is full; make room")
    assert "Errno" not in os_error_in_words(OSError(errno.EEXIST, "File exists", "out"))
    assert os_error_in_words(OSError("qwen is no model on the hub")) == "qwen is no model on the hub"
