"""Measurements of how far our training runs are from TRL's, and from themselves cut up another way.

Each returns the largest relative deviation over the steps of a run, as plain numbers that a report can print.
"""

import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from unittest import SkipTest

import tiny_models
import torch
import trl
from kept_ports import kept_port
from scratch import scratch_folder
from trl import SFTConfig, SFTTrainer

import qtarget as qt
from qtarget.train import TargetSFTConfig, TargetSFTTrainer

LAYOUTS = ("ddp", "fsdp-root", "fsdp-own")
"""Two processes: DDP, and fully_shard with the head in the root group or in a group of its own."""


class Deviation(NamedTuple):
    """Largest relative deviations of losses and gradient norms."""

    loss: float
    grad_norm: float


def common_args(**changes: Any) -> dict[str, Any]:
    """Arguments of a quiet fp32 run on the CPU that logs every step."""
    quiet = {
        "output_dir": scratch_folder(),
        "bf16": False,
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "max_steps": 20,
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-2,
        "max_grad_norm": 0.0,
        "optim": "sgd",
        "gradient_checkpointing": False,
        "seed": 3,
    }
    return {**quiet, **changes}


def run(
    method: str, *, family: str = "qwen2", tied: bool = False, data: Any = None, **changes: Any
) -> TargetSFTTrainer:
    """A finished run of ours on a tiny model."""
    needs_teacher = qt.method(method).num_teachers > 0
    trainer = TargetSFTTrainer(
        tiny_models.tiny_model(family, tied=tied),
        TargetSFTConfig(method=method, **common_args(**changes)),
        train_dataset=tiny_models.prompt_completion() if data is None else data,
        processing_class=tiny_models.tiny_tokenizer(),
        teacher=tiny_models.tiny_model(seed=1, width=48) if needs_teacher else None,
    )
    trainer.train()
    return trainer


def run_trl(
    loss_type: str, *, family: str = "qwen2", tied: bool = False, data: Any = None, **changes: Any
) -> SFTTrainer:
    """The same run by TRL."""
    skip_where_trl_cannot_train()
    trainer = SFTTrainer(
        tiny_models.tiny_model(family, tied=tied),
        SFTConfig(loss_type=loss_type, **common_args(**changes)),
        train_dataset=tiny_models.prompt_completion() if data is None else data,
        processing_class=tiny_models.tiny_tokenizer(),
    )
    trainer.train()
    return trainer


def skip_where_trl_cannot_train() -> None:
    """TRL 1.15 computes its own loss by a triton kernel, and trains nothing on a machine without triton."""
    if trl.__version__.startswith("1.15.") and find_spec("triton") is None:
        raise SkipTest("TRL 1.15 trains by triton only")


def history(trainer: SFTTrainer) -> dict[str, list[float]]:
    """Loss and gradient norm of every step."""
    steps = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
    return {name: [entry[name] for entry in steps] for name in ("loss", "grad_norm")}


def deviation(a: dict[str, list[float]], b: dict[str, list[float]]) -> Deviation:
    """How far two histories of the same steps are apart."""
    assert len(a["loss"]) == len(b["loss"]) > 0
    return Deviation(*(_relative(a[name], b[name]) for name in ("loss", "grad_norm")))


def _relative(a: list[float], b: list[float]) -> float:
    return max(abs(x - y) / max(abs(y), 1e-12) for x, y in zip(a, b, strict=True))  # 0 in a step without labels


def against_trl(method: str, **changes: Any) -> Deviation:
    """`sft` against TRL's "nll", `dft` against its "dft", 20 steps."""
    loss_type = {"sft": "nll", "dft": "dft"}[method]
    return deviation(history(run(method, **changes)), history(run_trl(loss_type, **changes)))


def accumulation(method: str, steps: int = 6, **changes: Any) -> Deviation:
    """Batches of 2×4 and 1×8 against 8 at once, the worse of the two."""
    whole = history(run(method, max_steps=steps, **changes))
    cut = [
        history(
            run(
                method,
                max_steps=steps,
                per_device_train_batch_size=8 // parts,
                gradient_accumulation_steps=parts,
                **changes,
            )
        )
        for parts in (4, 8)
    ]
    each = [deviation(pieces, whole) for pieces in cut]
    return Deviation(max(d.loss for d in each), max(d.grad_norm for d in each))


def two_processes(*methods: str) -> dict[str, dict[str, Deviation]]:
    """Two gloo processes against one: by method, then by layout."""
    from train.two_ranks import single

    results = launch(*methods)
    return {method: _layouts(results[method], single(method)) for method in methods}


def _layouts(two: dict[str, Any], one: dict[str, Any]) -> dict[str, Deviation]:
    return {layout: deviation(two[layout], one[layout.partition("-")[0]]) for layout in LAYOUTS}


def launch(*arguments: str, ranks: int = 2, script: str = "two_ranks.py") -> dict[str, Any]:
    """Run a script of this folder in `ranks` processes and return what rank 0 reports."""
    tests = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as folder, kept_port() as port:
        report = Path(folder) / "report.json"
        env = {
            **os.environ,
            "WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(tests), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        command = [sys.executable, str(tests / "train" / script), str(report), *arguments]
        logs = [Path(folder) / f"stderr_{rank}.txt" for rank in range(ranks)]  # a pipe that nobody reads would hold one
        workers = [
            subprocess.Popen(
                command,
                env={**env, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.DEVNULL,
                stderr=log.open("wb"),
            )
            for rank, log in enumerate(logs)
        ]
        try:
            codes = [worker.wait(timeout=1200) for worker in workers]
        finally:
            for worker in workers:
                worker.kill()
        failed = [log.read_text("utf-8", "replace") for code, log in zip(codes, logs, strict=True) if code]
        if failed:
            raise RuntimeError("\n".join(error[-3000:] for error in failed))
        return json.loads(report.read_text())


def measure() -> dict[str, Deviation]:
    """Every figure, by name; minutes on a laptop."""
    torch.set_num_threads(1)
    figures = {f"{method} against TRL": against_trl(method) for method in ("sft", "dft")}
    figures |= {f"{method} accumulated": accumulation(method) for method in ("sft", "dft", "target-sft")}
    for method, layouts in two_processes("sft", "dft", "target-sft").items():
        figures |= {f"{method} on two processes, {layout}": found for layout, found in layouts.items()}
    return figures
