"""How a command of the study's ended: by itself, or by a signal, its own or one that a shell passes on or a launcher
tells of."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from qtarget.disk.inherited_lock import inherited_lock
from qtarget.study.own_commands import CommandSurroundings, FailedCommandError, run_qtarget

ENDS = {
    "killed": ("import os; os.kill(os.getpid(), 9)", "was killed by SIGKILL (out of memory?)", True, False),
    "its launcher says so": ("raise SystemExit(137)", "was killed by SIGKILL (out of memory?)", True, False),
    "crashed": ("import os; os.kill(os.getpid(), 11)", "was killed by SIGSEGV", True, False),
    "told to end": ("import os; os.kill(os.getpid(), 15)", "was stopped by SIGTERM", True, True),
    "interrupted": ("raise SystemExit(130)", "was stopped by SIGINT", True, True),
    "failed": ("raise SystemExit('no weights')", "no weights", False, False),
    "failed silently": ("raise SystemExit(3)", "ended with code 3 and printed nothing", False, False),
    "a fault outside": ("import sys; print('the disk is full'); sys.exit(75)", "the disk is full", False, False),
    "a code of no signal": ("raise SystemExit(255)", "ended with code 255 and printed nothing", False, False),
}


@pytest.mark.parametrize("case", ENDS)
def test_how_a_command_ended_is_said(tmp_path, case: str):
    program, last, by_signal, is_stopped = ENDS[case]
    with pytest.raises(FailedCommandError, match=r"^`qtarget train` ") as ended:
        run_qtarget(["train"], tmp_path / "log.txt", CommandSurroundings((sys.executable, "-c", program)))
    assert ended.value.last == last
    assert (ended.value.signal is not None, ended.value.is_stopped) == (by_signal, is_stopped)
    assert ended.value.is_outside == (case == "a fault outside")


ACCELERATE = (sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2")
CHILD = """
import os, signal, sys, time
print("step 3", flush=True)
if sys.argv[1] == "fail":
    sys.stderr.write("its words are broken off\\nno weights\\n")  # as one write, as qtarget's: two ranks write at once
    raise SystemExit(1)
if os.environ.get("RANK", "1") == "1":
    os.kill(os.getpid(), 9)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as a rank ends that lost another
time.sleep(60)
"""
LAUNCHED = {
    "accelerate, killed": (ACCELERATE, "kill", "was killed by SIGKILL (out of memory?)", True),
    "accelerate, failed": (ACCELERATE, "fail", "no weights", True),
    "accelerate, silent": ((*ACCELERATE, "--quiet"), "kill", "step 3", False),
    "two ranks, one killed": (TORCHRUN, "kill", "was killed by SIGKILL (out of memory?)", True),
    "two ranks, failed": (TORCHRUN, "fail", "no weights", True),
}


@pytest.mark.parametrize("case", LAUNCHED)
def test_what_a_launcher_says_of_its_process_is_read(tmp_path, case: str):
    """Real launchers, which end with code 1 whatever their process ended with."""
    program, how, last, is_told = LAUNCHED[case]
    (tmp_path / "child.py").write_text(CHILD)
    around = CommandSurroundings((*program, str(tmp_path / "child.py")), is_launched=True)
    with pytest.raises(FailedCommandError) as ended:
        run_qtarget([how], tmp_path / "log.txt", around)
    assert (ended.value.last, ended.value.is_told) == (last, is_told)
    assert (ended.value.signal is not None) == ("killed" in last)
    assert "Traceback" not in str(ended.value)


WAITING = """
import os, sys, time
from pathlib import Path
Path(sys.argv[1], f"pid-{os.getpid()}").touch()
time.sleep(120)
"""


@pytest.mark.parametrize(("program", "ranks"), [(ACCELERATE, 1), (TORCHRUN, 2)], ids=["accelerate", "two ranks"])
def test_what_a_launcher_that_was_killed_had_started_holds_the_lock_until_it_ends(tmp_path, program, ranks: int):
    """Real launchers, which close all open files but standard input, output and error."""
    (tmp_path / "child.py").write_text(WAITING)
    with inherited_lock(tmp_path / "lock") as lock, ThreadPoolExecutor(1) as pool:
        around = CommandSurroundings((*program, str(tmp_path / "child.py")), is_launched=True, lock=lock)
        ending = pool.submit(run_qtarget, [str(tmp_path)], tmp_path / "log.txt", around)
        while len(started := list(tmp_path.glob("pid-*"))) < ranks and not ending.done():
            time.sleep(0.1)
        children = [psutil.Process(int(path.name.removeprefix("pid-"))) for path in started]
        children[0].parent().kill()
        with pytest.raises(FailedCommandError, match="SIGKILL"):
            ending.result()
    for child in children:
        with inherited_lock(tmp_path / "lock") as second:
            assert second is None
        child.kill()
        psutil.wait_procs([child], timeout=10)
    with inherited_lock(tmp_path / "lock") as second:
        assert second is not None
