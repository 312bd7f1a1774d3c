"""Whether the trainer works with the libraries that are installed: TRL's private parts, and one step of training."""

import tempfile
import time
from collections.abc import Iterator
from typing import Any

from qtarget.job.surroundings.observation import Observation

FAULTS = (ImportError, RuntimeError, ValueError, TypeError, AttributeError, OSError)
"""Errors of libraries that do not fit each other."""


def trainer_found() -> Iterator[Observation]:
    """The parts of TRL and transformers that the trainer leans on, and a step of training on a tiny model."""
    try:
        from qtarget.train.probes import HOOKS, STATE_KINDS, check_hooks

        check_hooks()
    except FAULTS as error:
        yield Observation("trainer", "private parts of TRL", _first_line(error), "fails", _remedy(error))
        return
    yield Observation(
        "trainer", "private parts of TRL", f"{len(HOOKS)} methods and {len(STATE_KINDS)} attributes as known"
    )
    try:
        start = time.perf_counter()
        loss = _step()
    except FAULTS as error:
        yield Observation(
            "trainer", "one step", f"{type(error).__name__}: {_first_line(error)}", "fails", _remedy(error)
        )
        return
    state = "fine" if 0 < loss < float("inf") else "fails"
    yield Observation(
        "trainer", "one step", f"of a tiny model: loss {loss:.3f}, {time.perf_counter() - start:.1f} s", state
    )


def _step() -> float:
    """Train one step, where a run would, with the precision that a run would have; its loss."""
    import torch
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM, PrinterCallback

    from qtarget import lab
    from qtarget.job.config.machine import machine_choices
    from qtarget.train import TargetSFTConfig, TargetSFTTrainer

    tokenizer = lab.tokenizer(lab.world("weak-operator"))
    sizes: Any = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes))
    chosen: Any = machine_choices({"use_cpu": not torch.cuda.is_available()}).keys
    rows = Dataset.from_list([{"input_ids": [5, 6, 7, tokenizer.eos_token_id]}] * 2)
    with tempfile.TemporaryDirectory() as folder:
        args = TargetSFTConfig(
            folder,
            method="sft",
            max_steps=1,
            per_device_train_batch_size=2,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=not torch.accelerator.is_available(),
            **chosen,
        )
        trainer = TargetSFTTrainer(model, args, train_dataset=rows, processing_class=tokenizer)
        trainer.remove_callback(PrinterCallback)  # it prints to standard output
        return trainer.train().training_loss


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].partition(" Write: ")[0]


def _remedy(error: Exception) -> str:
    return str(error).partition(" Write: ")[2].strip()
