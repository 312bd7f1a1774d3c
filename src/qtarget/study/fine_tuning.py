"""The trainer of a lab run: the one that users get, on a CPU and without output."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, PrinterCallback

import qtarget as qt
from qtarget import lab
from qtarget.lab import Demonstration, World
from qtarget.train import TargetSFTConfig, TargetSFTTrainer

ON_A_QUIET_CPU: dict[str, Any] = {
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "use_cpu": True,
    "dataloader_pin_memory": False,
}
"""Arguments of a run on a CPU whose progress is shown elsewhere, and whose model the caller saves."""


def lab_trainer(
    method: qt.Method,
    student: PreTrainedModel,
    world: World,
    rows: Sequence[Demonstration],
    teacher: Path | str,
    folder: Path,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    ema: float | None = None,
) -> TargetSFTTrainer:
    """The trainer of a student of the lab: cosine schedule, a twentieth of warm-up, ten lines of log.

    Args:
        teacher: its folder, or "self"; it is loaded only where the method needs one.
        folder: what the trainer writes while it trains.
        ema: for the teacher "self": the share of its average of the student that stays at a step; None: no average.
    """
    args = TargetSFTConfig(
        output_dir=str(folder),
        method=method.name,
        method_kwargs=dict(method.hyperparameters),
        teacher=str(teacher) if "teacher" in method.needs else None,
        ema=ema,
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        learning_rate=learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=steps // 20,
        logging_steps=max(steps // 10, 1),
        seed=seed,
        **ON_A_QUIET_CPU,
    )
    trainer = TargetSFTTrainer(
        model=student,
        args=args,
        train_dataset=Dataset.from_list([dict(row) for row in rows]),
        processing_class=lab.tokenizer(world),
    )
    trainer.remove_callback(PrinterCallback)  # its lines would break a progress bar
    return trainer
