"""A folder that one process at a time may write to."""

import pytest

from qtarget.disk.held_folders import SecondWriterError
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
