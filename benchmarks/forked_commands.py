"""Commands of `qtarget`, each forked from a process that has imported the libraries, which takes longer than a small
model's training. Words, files and results are those of commands that are typed.
"""

import json
import multiprocessing
import os
import resource
import sys
import time
import traceback
from collections.abc import Sequence
from multiprocessing import parent_process
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

from qtarget.disk.files import replace_text
from qtarget.study.own_commands import CommandCost, CommandSurroundings, failure_of

PRELOADED = ["qtarget.cli.main", "qtarget.job.training", "qtarget.evaluate.effects", "trl.trainer.sft_trainer", "peft"]
SERVER = multiprocessing.get_context("forkserver")


def forked_command(words: Sequence[str], log: Path, _around: CommandSurroundings) -> CommandCost:
    """Run `qtarget WORDS` in a process forked from the server; as `run_qtarget` otherwise.

    Raises:
        FailedCommandError: it failed; with its last lines.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    started, begin = time.monotonic(), log.stat().st_size if log.is_file() else 0
    with TemporaryDirectory() as place:
        process = SERVER.Process(target=_command, args=(list(words), str(log), f"{place}/usage"))
        process.start()
        process.join()
        if process.exitcode:
            raise failure_of(words[0], log, begin, process.exitcode)
        cpu, peak_kib = json.loads(Path(place, "usage").read_text("utf-8"))
    return CommandCost(round(time.monotonic() - started, 1), round(cpu, 1), round(peak_kib / 2**20, 2))


def _command(words: list[str], log: str, usage: str) -> None:
    _end_with_parent()
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(file, 1)
    os.dup2(file, 2)
    print("$ qtarget", *words, flush=True)
    code = 1
    try:
        from qtarget.cli.main import main

        main(words)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    used = resource.getrusage(resource.RUSAGE_SELF)
    replace_text(Path(usage), json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _end_with_parent() -> None:
    """A command whose caller was killed would go on beside the one that a second start begins."""
    parent = parent_process()
    assert parent is not None
    Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
