"""What `-m qtarget` runs under `accelerate launch`, on CPUs: `scaled_run.py REPORT WORD...`.

The first rank writes to REPORT how the weights are kept while a step is taken. accelerate has FSDP2 on accelerators
alone, and takes CPUs for such here.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from job.sharding_on_cpus import ShardingOnCPUs
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from qtarget.train import TargetSFTTrainer


class Kept(TrainerCallback):
    """Notes how a trainer keeps the weights of student and teachers."""

    def __init__(self, trainer: TargetSFTTrainer, report: Path) -> None:
        self.trainer, self.report = trainer, report

    def on_step_end(self, args, state, control, **kwargs) -> None:
        models = {"student": self.trainer.model} | {
            f"teacher {i}": teacher.model
            for i, teacher in enumerate(self.trainer.teachers)
            if hasattr(teacher, "model")
        }
        if state.is_world_process_zero:
            found = {name: sorted({kind_of(weight) for weight in model.parameters()}) for name, model in models.items()}
            self.report.write_text(json.dumps({"ranks": args.world_size, **found}), encoding="utf-8")


def kind_of(weight: Any) -> str:
    return "DTensor" if isinstance(weight, DTensor) else "ZeRO-3" if hasattr(weight, "ds_id") else "whole"


def noting(report: Path) -> None:
    """Have every trainer that is built note what it keeps."""
    build = TargetSFTTrainer.__init__

    def build_and_note(self, *args: Any, **kwargs: Any) -> None:
        build(self, *args, **kwargs)
        self.add_callback(Kept(self, report))

    TargetSFTTrainer.__init__ = build_and_note  # type: ignore[method-assign]


def main(report: str, *words: str) -> None:
    from qtarget.cli.main import main as qtarget

    torch.set_num_threads(1)
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        ShardingOnCPUs().install()
    noting(Path(report))
    qtarget(list(words))


if __name__ == "__main__":
    main(*sys.argv[1:])
