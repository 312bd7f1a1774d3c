"""`qtarget study-real` on a big GPU that is paid by the minute: many small units at once, each command forked from a
process that has imported the libraries.

A unit of a small model is short: most of its commands' time would go into imports, and alone it leaves a big GPU idle.
Commands, their words and their results are those of `qtarget study-real`. Seen with 13 workers under NVIDIA's MPS on an
H100: the 42 units of SmolLM2 that follow the rows in 192 s.

    nvidia-cuda-mps-control -d        # lets processes share the GPU; without it they take turns
    OMP_NUM_THREADS=1 python benchmarks/study_real_on_gpu.py --results R --work W --model NAME=PLACE --workers 13
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # asking CUDA itself would spoil the processes forked later

from forked_commands import PRELOADED, SERVER, forked_command

from qtarget.study.real_models import arm_answers, arm_models
from qtarget.study.real_models.real_protocol import read_protocol
from qtarget.study.real_models.real_study import RealStudy
from qtarget.study.real_models.run_real import check_settings, named_places, run_real_study

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
