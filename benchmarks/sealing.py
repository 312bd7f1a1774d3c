"""What a checkpoint costs, and what its seal adds: a model of 100 million random weights, trained and saved here.

    python benchmarks/sealing.py [--steps 3] [--rows-a-step 4] [--row-tokens 256] [--json FILE]

Prints the seconds of a step, of writing a checkpoint and of sealing it (its files are written through to the disk, and
hashed), and the part of a run that sealing takes at a save every 100 steps; at most 3 % is aimed at. Then the run goes
on from the sealed checkpoint. Weights are float32; on a GPU steps are bf16 mixed precision.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from timing import versions
from transformers import Qwen2Config, Qwen2ForCausalLM
from whole_step import quiet

from qtarget import lab
from qtarget.disk.files import write_json
from qtarget.disk.seal import damage, read_seal
from qtarget.train import TargetSFTConfig, TargetSFTTrainer

LIMIT, STEPS_A_SAVE = 0.03, 100
SIZES = {"num_hidden_layers": 10, "hidden_size": 768, "intermediate_size": 2304, "vocab_size": 32768}


class Clocked(TargetSFTTrainer):
    """Notes the wall seconds of each optimizer step, of writing checkpoints and of sealing them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seconds: dict[str, list[float]] = {"step": [], "save": [], "seal": []}

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        return self._timed("step", lambda: super(Clocked, self).training_step(*args, **kwargs))

    def save_checkpoint(self) -> None:
        self._timed("save", super().save_checkpoint)

    def seal(self, folder: Path) -> None:
        self._timed("seal", lambda: super(Clocked, self).seal(folder))

    def _timed(self, name: str, work: Any) -> Any:
        start = time.perf_counter()
        result = work()
        self.seconds[name].append(time.perf_counter() - start)
        return result


def trainer(folder: str, steps: int, rows_a_step: int, row_tokens: int) -> Clocked:
    heads = {"num_attention_heads": 12, "num_key_value_heads": 4}
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**SIZES, **heads, tie_word_embeddings=True))
    rows = [{"input_ids": torch.randint(5, 100, (row_tokens,)).tolist()} for _ in range(rows_a_step * steps)]
    args = TargetSFTConfig(
        folder,
        method="sft",
        max_steps=steps,
        per_device_train_batch_size=rows_a_step,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        gradient_checkpointing=False,
        bf16=torch.cuda.is_available(),
        max_length=None,
        use_cpu=not torch.cuda.is_available(),
    )
    tokenizer = lab.tokenizer(lab.world("weak-operator"))
    return Clocked(model, args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rows-a-step", type=int, default=4)
    parser.add_argument("--row-tokens", type=int, default=256)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        sizes = (asked.steps, asked.rows_a_step, asked.row_tokens)
        first = trainer(folder, *sizes)
        first.train()
        first.save_checkpoint()
        sealed = read_seal(Path(folder) / f"checkpoint-{asked.steps}")
        step, save, seal = (min(first.seconds[name]) for name in ("step", "save", "seal"))
        begun = time.perf_counter()
        wrong = damage(Path(folder) / f"checkpoint-{asked.steps}", sealed)
        hashing = time.perf_counter() - begun
        found = {
            "parameters": sum(weight.numel() for weight in first.model.parameters()),
            "MB": sealed.bytes / 1e6,
            "seconds a step": step,
            "seconds to save": save - seal,
            "seconds to seal": seal,
            "seconds to check": hashing,
            "MB a second": sealed.bytes / 1e6 / seal,
            "share of the run": seal / (STEPS_A_SAVE * step + save),
        }
        for name, value in found.items():
            print(f"{name:18} {value:14,.3f}")
        verdict = "met" if found["share of the run"] <= LIMIT else "missed"
        print(f"at most {LIMIT:.0%} of a run that saves every {STEPS_A_SAVE} steps: {verdict}")
        assert wrong == []
        again = trainer(folder, *sizes)
        again.train(resume_from_checkpoint=True)
        print(f"resumed at step {again.state.global_step}")
    if asked.json is not None:
        about = {"limit": LIMIT, "rows a step": asked.rows_a_step, "row tokens": asked.row_tokens}
        about |= {"device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"}
        write_json(
            asked.json,
            {**found, **about, **versions("torch", "transformers", "trl"), "threads": torch.get_num_threads()},
        )


if __name__ == "__main__":
    main()
