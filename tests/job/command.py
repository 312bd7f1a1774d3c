"""Commands run in this process, with their exit code and what they said."""

from typing import NamedTuple

import pytest

from qtarget.cli.main import main


class Said(NamedTuple):
    code: int
    out: str
    err: str


def run(capsys: pytest.CaptureFixture, *words: str) -> Said:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    text = capsys.readouterr()
    return Said(int(stopped.value.code or 0), text.out, text.err)
