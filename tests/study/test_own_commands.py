"""How a command of the study's ended: by itself, or by a signal, its own or one that a shell or launcher passes on."""

import sys

import pytest

from qtarget.study.own_commands import CommandSurroundings, FailedCommandError, run_qtarget

ENDS = {
    "killed": ("import os; os.kill(os.getpid(), 9)", "was killed by SIGKILL (out of memory?)", True, False),
    "its launcher says so": ("raise SystemExit(137)", "was killed by SIGKILL (out of memory?)", True, False),
    "crashed": ("import os; os.kill(os.getpid(), 11)", "was killed by SIGSEGV", True, False),
    "told to end": ("import os; os.kill(os.getpid(), 15)", "was stopped by SIGTERM", True, True),
    "interrupted": ("raise SystemExit(130)", "was stopped by SIGINT", True, True),
    "failed": ("raise SystemExit('no weights')", "no weights", False, False),
    "failed silently": ("raise SystemExit(3)", "ended with code 3 and printed nothing", False, False),
    "a code of no signal": ("raise SystemExit(255)", "ended with code 255 and printed nothing", False, False),
}


@pytest.mark.parametrize("case", ENDS)
def test_how_a_command_ended_is_said(tmp_path, case: str):
    program, last, by_signal, is_stopped = ENDS[case]
    with pytest.raises(FailedCommandError, match=r"^`qtarget train` ") as ended:
        run_qtarget(["train"], tmp_path / "log.txt", CommandSurroundings((sys.executable, "-c", program)))
    assert ended.value.last == last
    assert (ended.value.signal is not None, ended.value.is_stopped) == (by_signal, is_stopped)
