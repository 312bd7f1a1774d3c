"""Folders of tests that are no test's own: they are gone when the process ends."""

import tempfile

_HELD: list[tempfile.TemporaryDirectory] = []


def scratch_folder() -> str:
    _HELD.append(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
    return _HELD[-1].name
