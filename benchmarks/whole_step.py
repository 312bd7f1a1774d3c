"""A whole training step: batch made, forward, loss, backward, optimizer; ours beside TRL's own trainer.

    python benchmarks/whole_step.py '{"trainers": ["sft"], "sizes": {...}}'

prints by how many MiB the peak memory of a fresh process grows over two steps of each.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from timing import forked, fresh, growth_mib, has_peak, in_turn, medians, ratio
from transformers import Qwen2Config, Qwen2ForCausalLM
from trl import SFTConfig, SFTTrainer

from qtarget import lab
from qtarget.train import TargetSFTConfig, TargetSFTTrainer
from qtarget.train.metrics import FREE

TOKENIZER = "weak-operator"
"""Whose tokenizer the trainers are given; rows come as token ids, so nothing is read of it."""


@dataclass(frozen=True)
class Model:
    """A model, by itself one whose output layer is half of its parameters, and batches of `rows` × `length` tokens."""

    layers: int = 4
    hidden: int = 512
    feed_forward: int = 1536
    vocab: int = 32768
    heads: int = 8
    tied: bool = False
    rows: int = 4
    length: int = 256
    rounds: int = 5
    few: int = 2


QUICK = Model(layers=1, hidden=64, feed_forward=64, vocab=512, rows=2, length=16, rounds=1, few=1)
LOGGING_STEPS = 10
"""Steps between two logs, TRL's default: diagnostics that cost something are measured at those alone."""
TRAINERS: dict[str, dict[str, Any]] = {
    "sft": {"method": "sft"},
    "dft": {"method": "dft"},
    "eaft": {"method": "eaft"},
    "sft, no diagnostics": {"method": "sft", "diagnostics": []},
    "sft, a step that is logged": {"method": "sft", "logging_steps": 1},
    "TRL nll": {"loss_type": "nll"},
    "TRL dft": {"loss_type": "dft"},
}
SLOW = {"TRL nll", "TRL dft"}
"""Trainers measured in fewer rounds, beside ours."""
PAIRS = {
    "sft over TRL nll": ("sft", "TRL nll"),
    "dft over sft": ("dft", "sft"),
    "eaft over sft": ("eaft", "sft"),
    "dft over TRL dft": ("dft", "TRL dft"),
    "free diagnostics": ("sft", "sft, no diagnostics"),
    "all diagnostics": ("sft, a step that is logged", "sft, no diagnostics"),
}


def quiet() -> None:
    """No progress bars, no advice."""
    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()


def model_of(sizes: Model) -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=sizes.vocab,
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=8,
        intermediate_size=sizes.feed_forward,
        tie_word_embeddings=sizes.tied,
    )
    return Qwen2ForCausalLM(config)


def rows_of(sizes: Model) -> datasets.Dataset:
    """A batch of random tokens, all of them supervised."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(64, sizes.vocab, (sizes.rows, sizes.length), generator=draw).tolist()
    return datasets.Dataset.from_list([{"input_ids": row, "labels": row} for row in ids])


def step_of(name: str, sizes: Model, folder: Path) -> Callable[[], None]:
    """One training step of a trainer of its own, on a model of its own."""
    given = TRAINERS[name]
    trainer_class, config = (SFTTrainer, SFTConfig) if "loss_type" in given else (TargetSFTTrainer, TargetSFTConfig)
    quiet = {
        "output_dir": str(folder), "per_device_train_batch_size": sizes.rows, "logging_steps": 10**6,
        "save_strategy": "no", "report_to": "none", "disable_tqdm": True, "bf16": False,
        "gradient_checkpointing": False, "use_cpu": True, "dataloader_pin_memory": False,
    }  # fmt: skip
    trainer = trainer_class(
        model_of(sizes),
        config(**{**quiet, **given}),
        train_dataset=rows_of(sizes),
        processing_class=lab.tokenizer(lab.world(TOKENIZER)),
    )
    return partial(_step, trainer, trainer.create_optimizer(), sizes.rows * (sizes.length - 1))


def _step(trainer: SFTTrainer, optimizer: torch.optim.Optimizer, labels: int) -> None:
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(len(trainer.train_dataset))])
    trainer.training_step(trainer.model, batch, torch.tensor(labels))
    optimizer.step()
    optimizer.zero_grad()


def run(sizes: Model) -> dict:
    """Seconds and peak memory of every trainer, and the ratios that have targets."""
    with tempfile.TemporaryDirectory() as folder:
        steps = {name: step_of(name, sizes, Path(folder)) for name in TRAINERS}
        own = in_turn({name: step for name, step in steps.items() if name not in SLOW}, sizes.rounds)
        beside = in_turn({name: steps[name] for name in (*SLOW, "sft", "dft")}, sizes.few)
    ratios = {name: ratio(beside if SLOW & set(pair) else own, *pair) for name, pair in PAIRS.items()}
    free, every = (ratios[name]["median"] - 1 for name in ("free diagnostics", "all diagnostics"))
    return {
        "model": asdict(sizes),
        "seconds": {**medians(beside), **medians(own)},
        "ratios": ratios,
        "free": FREE,
        "diagnostics": free + (every - free) / LOGGING_STEPS,
        "mib": peaks(("sft", "dft", "eaft", "TRL nll", "TRL dft"), sizes),
    }


def peaks(trainers: Sequence[str], sizes: Model) -> dict[str, float | None]:
    """MiB of peak memory that two steps add to a process that has built the trainer; None where nobody says."""
    if not has_peak():
        return dict.fromkeys(trainers)
    found = fresh(Path(__file__), json.dumps({"trainers": trainers, "sizes": asdict(sizes)}))
    return dict(zip(trainers, found, strict=True))


def _measure_peak(trainer: str, sizes: Model) -> float:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        step = step_of(trainer, sizes, Path(folder))
        return growth_mib(lambda: [step() for _ in range(2)])


if __name__ == "__main__":
    quiet()
    asked = json.loads(sys.argv[1])
    sizes = Model(**asked["sizes"])
    print(json.dumps([forked(partial(_measure_peak, name, sizes)) for name in asked["trainers"]]))
