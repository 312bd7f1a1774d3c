"""`qtarget study-real` on a big GPU that is paid by the minute: many small units at once, each command forked from a
process that has imported the libraries.

A unit of a small model is short: most of its commands' time would go into imports, and alone it leaves a big GPU idle.
Commands, their words and their results are those of `qtarget study-real`. Seen with 13 workers under NVIDIA's MPS on an
H100: the 42 units of SmolLM2 that follow the rows in 192 s.

    nvidia-cuda-mps-control -d        # lets processes share the GPU; without it they take turns
    OMP_NUM_THREADS=1 python benchmarks/study_real_on_gpu.py --results R --work W --model NAME=PLACE --workers 13
"""

import argparse
import json
import multiprocessing
import os
import resource
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # asking CUDA itself would spoil the processes forked later

from qtarget.disk.files import replace_text
from qtarget.study.own_commands import CommandCost, CommandSurroundings
from qtarget.study.real_models import arm_answers, arm_models
from qtarget.study.real_models.real_protocol import read_protocol
from qtarget.study.real_models.real_study import RealStudy
from qtarget.study.real_models.run_real import check_settings, named_places, run_real_study

PRELOADED = ["qtarget.cli.main", "qtarget.job.training", "qtarget.evaluate.effects", "trl.trainer.sft_trainer", "peft"]
SERVER = multiprocessing.get_context("forkserver")


def forked_command(words: Sequence[str], log: Path, _around: CommandSurroundings) -> CommandCost:
    """Run `qtarget WORDS` in a process forked from the server; as `run_qtarget` otherwise."""
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with TemporaryDirectory() as place:
        process = SERVER.Process(target=_command, args=(list(words), str(log), f"{place}/usage"))
        process.start()
        process.join()
        if process.exitcode:
            said = log.read_text(encoding="utf-8", errors="replace").splitlines()[-6:]
            raise ValueError(f"`qtarget {words[0]}` failed ({log} holds all it said):\n" + "\n".join(said))
        cpu, peak_kib = json.loads(Path(place, "usage").read_text("utf-8"))
    return CommandCost(round(time.monotonic() - started, 1), round(cpu, 1), round(peak_kib / 2**20, 2))


def _command(words: list[str], log: str, usage: str) -> None:
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


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--protocol", default="whole")
    asked.add_argument("--results", type=Path, required=True)
    asked.add_argument("--work", type=Path, required=True)
    asked.add_argument("--model", action="append", default=[])
    asked.add_argument("--rows", action="append", default=[])
    asked.add_argument("--setting", action="append", default=[])
    asked.add_argument("--hours", type=float)
    asked.add_argument("--workers", type=int, default=12)
    asked.add_argument("--batch-size", type=int, default=100)
    given = asked.parse_args()
    SERVER.set_forkserver_preload(PRELOADED)
    arm_models.run_qtarget = arm_answers.run_qtarget = forked_command
    folders = {name: Path(place) for name, place in named_places(given.rows, "--rows").items()}
    weights = named_places(given.model, "--model")
    protocol = read_protocol(given.protocol)
    check_settings(given.setting, protocol)
    study = RealStudy(protocol, given.results, given.work, weights, folders, given.batch_size)
    run_real_study(study, given.setting, given.hours, given.workers)
