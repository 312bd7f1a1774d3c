"""Files are written whole or not at all, and what is damaged is refused by name."""

import json
import math
import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from qtarget.disk import files
from qtarget.disk.files import (
    is_draft,
    make_json_valid,
    read_json_object,
    replace_file,
    replace_text,
    replacing,
    write_digested_json,
    write_json,
)
from qtarget.disk.held_folders import HOLDER, LOCK
from qtarget.disk.one_writer import held_by, one_writer

FULL = OSError(28, "No space left on device")


@pytest.fixture
def path(tmp_path) -> Path:
    (tmp_path / "result.json").write_bytes(b"old")
    return tmp_path / "result.json"


def only_old(path: Path) -> bool:
    return path.read_bytes() == b"old" and [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_file_is_replaced(path):
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_new_file_is_made(tmp_path):
    replace_text(tmp_path / "new", "η\n")
    assert (tmp_path / "new").read_bytes() == "η\n".encode()


@pytest.mark.parametrize("moment", ["os.fsync", "os.replace"])
def test_a_failure_leaves_the_old_file_and_nothing_beside_it(path, monkeypatch, moment):
    def fail(*_):
        raise FULL

    monkeypatch.setattr(moment, fail)
    with pytest.raises(OSError, match="space"):
        replace_file(path, b"new")
    assert only_old(path)


def test_an_error_while_the_content_is_made_leaves_the_old_file(path):
    def stopped() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert only_old(path)


@pytest.mark.failure_case(1)
def test_a_kill_between_writing_and_replacing_leaves_the_old_file_and_the_next_holder_of_the_folder_clears_up(path):
    program = (
        "import os, pathlib, qtarget.disk.files as files\n"
        "os.replace = lambda *_: os._exit(9)\n"
        f"files.replace_file(pathlib.Path({str(path)!r}), b'new')"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 9
    assert path.read_bytes() == b"old"
    assert [file.read_bytes() for file in path.parent.iterdir() if is_draft(file)] == [b"new"]
    (path.parent / ".mine.draft").write_bytes(b"a file of the user's")
    with one_writer(path.parent):
        assert {file.name for file in path.parent.iterdir()} == {path.name, ".mine.draft", LOCK, HOLDER}


def test_a_writer_whose_folder_was_replaced_is_told_and_leaves_the_note_of_another(tmp_path):
    folder = tmp_path / "out"
    with one_writer(folder) as check:
        check()
        shutil.rmtree(folder)
        with pytest.raises(ValueError, match="was removed or replaced"):
            check()
        other = one_writer(folder)
        other.__enter__()
        with pytest.raises(ValueError, match="so another may write there now"):
            check()
    assert (folder / HOLDER).is_file()
    other.__exit__(None, None, None)


def test_who_looks_whether_a_folder_is_written_to_keeps_no_writer_out(tmp_path, monkeypatch):
    """As a run does every second that follows a cache: for a moment it holds the lock, together with others."""
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / LOCK).touch()
    with (tmp_path / LOCK).open("rb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        monkeypatch.setattr("time.sleep", lambda seconds: fcntl.flock(looking, fcntl.LOCK_UN))
        with one_writer(tmp_path):
            assert held_by(tmp_path).startswith(f"process {os.getpid()} on ")


def test_the_content_is_on_the_disk_before_it_gets_its_name_and_the_name_after(path, monkeypatch):
    steps = []
    real_fsync, real_replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (steps.append("fsync"), real_fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda *paths: (steps.append("replace"), real_replace(*paths)))
    replace_file(path, b"new")
    assert steps == ["fsync", "replace", "fsync"] if os.name != "nt" else ["fsync", "replace"]


def test_a_folder_that_the_system_does_not_sync_is_no_error(path, monkeypatch):
    real = os.fsync

    def only_files(handle):
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(22, "Invalid argument")
        real(handle)

    monkeypatch.setattr(os, "fsync", only_files)
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_link_stays_a_link_and_what_it_points_to_is_replaced(path):
    link = path.with_name("link")
    link.symlink_to(path)
    replace_file(link, b"new")
    assert link.is_symlink()
    assert path.read_bytes() == b"new"


def test_two_writers_at_once_leave_a_whole_file(path):
    contents = [bytes([65 + index]) * 200_000 for index in range(4)]
    threads = [threading.Thread(target=lambda c=c: [replace_file(path, c) for _ in range(20)]) for c in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_json_is_utf_8_whatever_the_systems_code_page_is(path):
    write_json(path, {"η": 0.2, "folder": Path("x")})
    assert path.read_bytes() == '{\n "η": 0.2,\n "folder": "x"\n}\n'.encode()
    assert read_json_object(path, "write it anew") == {"η": 0.2, "folder": "x"}


def test_json_that_holds_its_own_sha256_is_read_without_it_and_refused_where_it_was_changed(path):
    written = {"η": 0.2, "grades": [1, 0], 3: None, "folder": Path("x")}
    write_digested_json(path, written)
    assert read_json_object(path, "write it anew") == {"η": 0.2, "grades": [1, 0], "3": None, "folder": "x"}
    text = path.read_text(encoding="utf-8")
    path.write_text(json.dumps(json.loads(text)), encoding="utf-8")  # laid out otherwise, it is the same
    assert read_json_object(path, "write it anew")["grades"] == [1, 0]
    for changed in (text.replace("0.2", "0.3"), text.replace("grades", "gradez"), text.replace(": null", ": 0")):
        path.write_text(changed, encoding="utf-8")
        with pytest.raises(ValueError, match=r"is damaged .it holds other values than were written.; write it anew"):
            read_json_object(path, "write it anew")
    path.write_text(text.replace("content_sha256", "content_sha257"), encoding="utf-8")
    with pytest.raises(ValueError, match="unknown key 'content_sha257'"):
        read_json_object(path, "write it anew", ["η", "grades", "3", "folder"])


def test_what_is_no_number_is_null_under_a_sha256_too(path):
    write_digested_json(path, {"a": math.nan, "b": [math.inf]})
    assert read_json_object(path, "write it anew") == {"a": None, "b": [None]}


def test_what_is_no_number_is_null(path):
    write_json(path, {"a": math.nan, "b": [1.5, -math.inf, {"c": (math.inf, 2)}], "d": "NaN"}, indent=0)
    assert strict(path) == {"a": None, "b": [1.5, None, {"c": [None, 2]}], "d": "NaN"}


def test_a_librarys_json_is_made_valid_and_otherwise_left_alone(path):
    path.write_text('{"b": NaN, "a": [Infinity, -Infinity, 1]}', encoding="utf-8")
    make_json_valid(path)
    assert strict(path) == {"a": [None, None, 1], "b": None}
    path.write_text('{"b":   1, "a": "NaN"}', encoding="utf-8")
    make_json_valid(path)
    assert path.read_text(encoding="utf-8") == '{"b":   1, "a": "NaN"}'


def strict(path: Path):
    """A file's JSON, read as other languages read it."""
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)


def test_json_that_cannot_be_written_leaves_the_old_file(path):
    with pytest.raises(TypeError):
        write_json(path, {("a", "b"): 1})
    assert only_old(path)


@pytest.mark.parametrize(
    ("content", "trouble"),
    [
        (b'{"arms": [1, 2', "Expecting"),
        (b"", "Expecting value"),
        (b"[1]", "expected a JSON object"),
        (b"\xff\xfe{}", "utf-8"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_json_object_is_refused_with_its_file_and_the_remedy(path, content, trouble):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"(?s)^{path} is damaged \(.*{trouble}.*\); delete it and start anew\.$"):
        read_json_object(path, "delete it and start anew")


def test_json_written_in_an_older_version_is_read(path):
    path.write_text(json.dumps({"η": 1}), encoding="utf-8")
    assert files.read_json_object(path, "") == {"η": 1}


def test_a_pipe_or_a_device_is_never_replaced_by_a_file(tmp_path):
    """As root, `os.replace` would take the place of /dev/null."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match="Not a regular file"):
            replace_text(tmp_path / name, "x")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe"]


def test_folders_are_locked_where_there_is_no_fcntl(tmp_path):
    """As on Windows: only who holds a lock is not known there."""
    code = (
        "import sys; sys.modules['fcntl'] = None\n"
        "from pathlib import Path\n"
        "from qtarget.disk.one_writer import held_by\n"
        f"print(held_by(Path({str(tmp_path)!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "None\n"), done.stderr
