"""How often, in an optimizer step of four micro-batches, the host waits for the device and ranks for one another: ours
beside TRL's own trainer, counted by torch's profiler on the CPU.

    python benchmarks/synchronisations.py '{"trainers": ["sft"], "ranks": 2}'

prints the counts of one optimizer step, as JSON. Three of our reads in a micro-batch are of checks that are left out on
CUDA: the least and the largest label, and whether trust and residual sum to 1.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch
import torch.distributed as dist
from torch.profiler import ProfilerActivity, profile
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer
from whole_step import QUICK, TOKENIZER, model_of, quiet, rows_of

from qtarget import lab
from qtarget.train import TargetSFTConfig, TargetSFTTrainer

ACCUMULATION = 4
STEPS = (3, 4)
"""Optimizer steps of two runs; their difference holds neither a run's beginning nor its end."""
TRAINERS = {"sft": {"method": "sft"}, "dft": {"method": "dft"}, "TRL nll": {"loss_type": "nll"}}
READ = "aten::_local_scalar_dense"
SHAPES = "aten::nonzero"
"""Which waits for the number of entries that are not zero."""
COLLECTIVE = "c10d::"


@dataclass(frozen=True)
class Counts:
    """Of one optimizer step on one rank.

    Attributes:
        reads: numbers read from a tensor.  shapes: tensors whose size the device has to say.
        collectives: exchanges with the other ranks, gradients included.
    """

    reads: float
    shapes: float
    collectives: float


def run(quick: bool) -> dict:
    """Counts of every trainer, in one process and in two."""
    names = ("sft", "TRL nll") if quick else tuple(TRAINERS)
    found = {ranks: launched(names, ranks) for ranks in ((1,) if quick else (1, 2))}
    rows = [{"trainer": name, "ranks": ranks, **counts} for ranks, of in found.items() for name, counts in of.items()]
    return {"accumulation": ACCUMULATION, "rows": rows}


def launched(trainers: Sequence[str], ranks: int) -> dict[str, dict[str, float]]:
    """Counts by trainer as rank 0 of `ranks` fresh processes finds them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1]), "WORLD_SIZE": str(ranks)}
    command = [sys.executable, __file__, json.dumps({"trainers": trainers, "ranks": ranks})]
    own = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]
    together = {**os.environ, "OMP_NUM_THREADS": "1", **(address if ranks > 1 else {})}
    started = [
        subprocess.Popen(command, env={**together, **(rank if ranks > 1 else {})}, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True, encoding="utf-8")
        for rank in own
    ]  # fmt: skip
    said = [process.communicate() for process in started]
    for process, (_, errors) in zip(started, said, strict=True):
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{errors[-2000:]}")
    return json.loads(said[0][0].splitlines()[-1])


def counts_of(name: str, ranks: int) -> Counts:
    few, many = (_events(name, ranks, steps) for steps in STEPS)
    many.subtract(few)
    each = {event: count / (STEPS[1] - STEPS[0]) for event, count in many.items()}
    collectives = sum(count for event, count in each.items() if event.startswith(COLLECTIVE))
    return Counts(each.get(READ, 0), each.get(SHAPES, 0), collectives)


def _events(name: str, ranks: int, steps: int) -> Counter[str]:
    """How often each operator ran in a training of so many optimizer steps."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(name, ranks, steps, folder)
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            trainer.train()
    return Counter({event.key: event.count for event in profiled.key_averages()})


def _trainer(name: str, ranks: int, steps: int, folder: str) -> SFTTrainer:
    given = TRAINERS[name]
    trainer_class, config = (SFTTrainer, SFTConfig) if "loss_type" in given else (TargetSFTTrainer, TargetSFTConfig)
    settings = {
        "output_dir": folder, "max_steps": steps, "per_device_train_batch_size": 1, "logging_steps": 10**6,
        "gradient_accumulation_steps": ACCUMULATION, "save_strategy": "no", "report_to": "none", "disable_tqdm": True,
        "bf16": False, "gradient_checkpointing": False, "use_cpu": True, "dataloader_pin_memory": False,
        "ddp_backend": "gloo" if ranks > 1 else None,
    }  # fmt: skip
    trainer = trainer_class(
        model_of(QUICK),
        config(**settings, **given),
        train_dataset=rows_of(replace(QUICK, rows=steps * ACCUMULATION * ranks)),
        processing_class=lab.tokenizer(lab.world(TOKENIZER)),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def main() -> None:
    quiet()
    torch.set_num_threads(1)
    asked = json.loads(sys.argv[1])
    found = {name: asdict(counts_of(name, asked["ranks"])) for name in asked["trainers"]}
    print(json.dumps(found), flush=True)
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
