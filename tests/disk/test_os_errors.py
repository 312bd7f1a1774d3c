"""A full disk is known behind what a library, another rank or a command of ours makes of it."""

import errno

import pytest

from qtarget.disk.os_errors import FullDiskError, is_full_disk


def behind(error: Exception, *causes: Exception) -> Exception:
    for outer, cause in zip((error, *causes), causes, strict=False):
        outer.__cause__ = cause
    return error


ERRORS = {
    "of the system": (OSError(errno.ENOSPC, "no space"), True),
    "in safetensors' words": (ValueError("I/O error (os error 28)"), True),
    "in words of another rank": (FullDiskError("On rank 1: the disk is full; make room."), True),
    "behind another": (behind(ValueError("the checkpoint"), RuntimeError("saving"), FullDiskError("On rank 1")), True),
    "another error of the system": (OSError(errno.EACCES, "not permitted"), False),
    "none of files": (behind(ValueError("the checkpoint"), RuntimeError("saving")), False),
}


@pytest.mark.parametrize("case", ERRORS)
def test_a_full_disk_is_known(case: str):
    error, is_full = ERRORS[case]
    assert is_full_disk(error) is is_full


def test_other_ranks_are_told_the_code_of_a_full_disk():
    from qtarget.train.roll_call import exit_code

    assert exit_code(behind(ValueError("the checkpoint"), FullDiskError("On rank 1"))) == 75
    assert exit_code(ValueError("the loss")) == 1
