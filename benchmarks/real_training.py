"""Training a model of yours on rows of yours: tokens a second and peak memory, beside TRL's own trainer.

    python benchmarks/real_training.py MODEL rows.jsonl [--steps 60] [--rows-a-step 16] [--json FILE]

MODEL is a folder, a .gguf file or a hub name. A row holds `messages`; the last turn is learned, by every trainer alike.
The teacher of target-sft is a frozen copy of the model. Weights are float32; on a GPU steps are bf16 mixed precision.
All trainers see the same batches in the same order, and TRL comes twice, first and last: what lies between its two
figures is noise. Memory is measured on a GPU alone.
"""

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, load_dataset
from timing import versions
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from trl import SFTConfig, SFTTrainer
from whole_step import quiet

from qtarget.disk.files import write_json
from qtarget.models.loading import causal_lm_from, tokenizer_of
from qtarget.train import TargetSFTConfig, TargetSFTTrainer

TRAINERS: dict[str, dict[str, Any]] = {
    "TRL nll": {"loss_type": "nll"},
    "sft": {"method": "sft"},
    "target-sft": {"method": "target-sft", "method_kwargs": {"eta": 0.5}},
    "TRL nll, again": {"loss_type": "nll"},
}


class Clock(TrainerCallback):
    """Seconds and tokens from the end of step `warm` on; peak memory of the whole training."""

    def __init__(self, warm: int) -> None:
        self.warm, self.tokens, self.began, self.ended = warm, 0, 0.0, 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.warm:
            self.began, self.tokens = now(), 0

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.ended = now()

    def counting(self, collator: Any) -> Any:
        """A collator that counts the tokens which are no padding."""

        def collate(rows: Any) -> Any:
            batch = collator(rows)
            self.tokens += int(batch["attention_mask"].sum())
            return batch

        return collate


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


Opened = Callable[[torch.dtype], PreTrainedModel]
"""Opens the model anew, its weights in a dtype."""


def measured(
    given: dict[str, Any], opened: Opened, tokenizer: PreTrainedTokenizerBase, rows: Dataset, steps: int, batch: int
) -> dict[str, Any]:
    """One training from the start, in steps of `batch` rows; `given` is one of `TRAINERS`."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with tempfile.TemporaryDirectory() as folder:
        return _measured(given, opened, tokenizer, rows, steps, batch, Path(folder))


def _measured(
    given: dict[str, Any],
    opened: Opened,
    tokenizer: PreTrainedTokenizerBase,
    rows: Dataset,
    steps: int,
    batch: int,
    folder: Path,
) -> dict[str, Any]:
    model, more = opened(torch.float32), {}
    if given.get("method") == "target-sft":
        more["teacher"] = opened(torch.bfloat16)
    trainer_class, config = (SFTTrainer, SFTConfig) if "loss_type" in given else (TargetSFTTrainer, TargetSFTConfig)
    args = config(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=batch,
        learning_rate=1e-5,
        logging_steps=10,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        bf16=torch.cuda.is_available(),
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=False,
        **given,
    )
    clock = Clock(warm=max(1, steps // 6))
    trainer = trainer_class(model, args, train_dataset=rows, processing_class=tokenizer, callbacks=[clock], **more)
    trainer.data_collator = clock.counting(trainer.data_collator)
    trainer.train()
    seconds = clock.ended - clock.began
    return {
        "tokens a second": clock.tokens / seconds,
        "ms a step": 1000 * seconds / (steps - clock.warm),
        "peak MiB": torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None,
        "losses": [log["loss"] for log in trainer.state.log_history if "loss" in log],
        "gradient norms": [log["grad_norm"] for log in trainer.state.log_history if "grad_norm" in log],
    }


def told(name: str, row: dict[str, Any]) -> str:
    """A training's figures, as a line."""
    memory = "" if row["peak MiB"] is None else f", peak {row['peak MiB']:,.0f} MiB"
    return f"{name:20} {row['tokens a second']:10,.0f} tokens/s, {row['ms a step']:8.1f} ms a step{memory}"


def prompts_and_completions(file: Path) -> Dataset:
    found = load_dataset("json", data_files=str(file), split="train")["messages"]
    return Dataset.from_list([{"prompt": turns[:-1], "completion": turns[-1:]} for turns in found])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("rows", type=Path)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rows-a-step", type=int, default=16)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    quiet()
    rows, tokenizer, found = prompts_and_completions(options.rows), tokenizer_of(options.model), {}
    opened = lambda dtype: causal_lm_from(options.model, {"dtype": dtype})  # noqa: E731
    for name, given in TRAINERS.items():
        found[name] = measured(given, opened, tokenizer, rows, options.steps, options.rows_a_step)
        print(told(name, found[name]), flush=True)
        if options.json:
            device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
            about = {"device": device, **versions("torch", "transformers", "trl", "qtarget")}
            asked = {key: str(value) for key, value in vars(options).items()}
            write_json(options.json, {"about": about, "asked": asked, "trainers": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
