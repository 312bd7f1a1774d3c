"""Whether a checkpoint is of the run that is to go on from it: its adapter and its optimizer, before any model is
loaded."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer
from transformers.trainer_utils import get_last_checkpoint

from qtarget.job.config.checked_job import Job

ADAPTER_SETTINGS = {"r": "lora_r", "lora_alpha": "lora_alpha", "use_dora": "use_dora", "use_rslora": "use_rslora"}
"""What an adapter's configuration says, and our keys for the same."""
GIVEN_BY_THE_RUN = {"params", "lr", "initial_lr", "param_names"}
"""Values of an optimizer's groups that say nothing of its kind."""


def check_checkpoint_fits(job: Job) -> None:
    """Refuse to resume a run under another adapter or optimizer than its checkpoint's.

    Raises:
        ValueError: which of the two differs, and the line to write.
    """
    resume = job.args.resume_from_checkpoint
    if not resume or not job.output.is_dir():
        return
    name = resume if isinstance(resume, str) else get_last_checkpoint(str(job.output))
    if name is not None and Path(name).is_dir():
        _check_adapter(job, Path(name))
        _check_optimizer(job, Path(name))


def _check_adapter(job: Job, checkpoint: Path) -> None:
    path, has_one = checkpoint / "adapter_config.json", bool(job.model_args.use_peft)
    if path.is_file() != has_one:
        holds = (
            "holds an adapter, and this run has none" if path.is_file() else "holds no adapter, and this run has one"
        )
        line = "write `use_peft: true`" if path.is_file() else "write `use_peft: false`"
        raise ValueError(f"{checkpoint} {holds}; {line}, or start in another `output_dir`.")
    for theirs, ours in ADAPTER_SETTINGS.items() if has_one else ():
        before, now = _config(path).get(theirs), getattr(job.model_args, ours)
        if before is not None and before != now:
            raise ValueError(
                f"{checkpoint} holds an adapter with `{ours}: {before}`, and this run has `{ours}: {now}`; write "
                f"`{ours}: {str(before).lower()}`, or start in another `output_dir`."
            )


def _config(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged ({error}); resume from an earlier checkpoint: `resume_from_checkpoint: FOLDER`."
        ) from error


def _check_optimizer(job: Job, checkpoint: Path) -> None:
    """Optimizers differ in the names of their settings. One whose file cannot be read is left to the trainer, and so
    is one that cannot be made without its model."""
    try:
        saved = torch.load(checkpoint / "optimizer.pt", map_location="cpu", weights_only=True, mmap=True)
        before = set(saved["param_groups"][0]) - GIVEN_BY_THE_RUN
        kind, settings = Trainer.get_optimizer_cls_and_kwargs(job.args)
        now = set(kind([torch.zeros(1, requires_grad=True)], **settings).param_groups[0]) - GIVEN_BY_THE_RUN
    except Exception:
        return
    if before != now:
        raise ValueError(
            f"{checkpoint} was written by another optimizer than `optim: {getattr(job.args.optim, 'value', '')}` (it "
            f"sets {', '.join(sorted(before - now) or sorted(now - before))}); write the `optim` that the run began "
            "with, or start in another `output_dir`."
        )
