"""A folder that one process at a time may write to."""

import os
import shutil
import subprocess
import sys

import pytest

from qtarget.disk.held_folders import SecondWriterError
from qtarget.disk.inherited_lock import LOCK_IS_STDIN, inherited_lock
from qtarget.disk.one_writer import one_writer, remove_unwritten


def test_a_folder_that_is_being_written_is_not_removed(tmp_path):
    folder = tmp_path / "model"
    with one_writer(folder):
        (folder / "weights").touch()
        with pytest.raises(SecondWriterError, match=r"model is being written by process \d+ on .*Wait until it has"):
            remove_unwritten(folder)
        assert (folder / "weights").is_file()
    remove_unwritten(folder)
    assert not folder.exists()
    remove_unwritten(folder)  # which is not there
    assert not folder.exists()


@pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
def test_a_lock_that_came_as_standard_input_is_held_and_given_to_nobody(tmp_path):
    """A program that a command starts, and leaves behind, holds its lock no longer than the command lives."""
    script = """
import subprocess, sys, time
from qtarget.disk.inherited_lock import take_lock_from_stdin
take_lock_from_stdin()
assert sys.stdin.read() == ""
left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(left.pid, flush=True)
time.sleep(60)
"""
    with inherited_lock(tmp_path / "lock") as handle:
        words = {"stdin": handle, "stdout": subprocess.PIPE, "env": {**os.environ, LOCK_IS_STDIN: "1"}}
        command = subprocess.Popen([sys.executable, "-c", script], **words)
        left = int(command.stdout.readline())
    try:
        with inherited_lock(tmp_path / "lock") as handle:
            assert handle is None
        command.kill()
        command.wait()
        with inherited_lock(tmp_path / "lock") as handle:
            assert handle is not None
    finally:
        os.kill(left, 9)


def test_a_folder_is_removed_at_once_so_that_who_begins_meanwhile_has_one_of_its_own(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "old.txt").write_text("old", encoding="utf-8")
    plain = shutil.rmtree

    def begun_meanwhile(path, **options):
        folder.mkdir()
        (folder / "new.txt").write_text("new", encoding="utf-8")
        plain(path, **options)

    monkeypatch.setattr(shutil, "rmtree", begun_meanwhile)
    remove_unwritten(folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "new.txt"]
