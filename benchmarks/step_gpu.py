"""A whole training of a model of 1.3 billion random parameters, by our trainer and by TRL's: a part of `fused_gpu.py`.

The model is made from its configuration, so that nothing is downloaded. Every step sees the same 8 rows of 1,024 random
tokens, all of them learned: as many tokens as the loss is timed at. Weights are float32, steps bf16 mixed precision.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from datasets import concatenate_datasets
from real_training import measured, told
from whole_step import TOKENIZER, Model, model_of, quiet, rows_of

from qtarget import lab

BILLION = Model(
    layers=16, hidden=2048, feed_forward=8192, vocab=151936, heads=16, tied=True, rows=8, length=1024
)  # fmt: skip
TRAINERS: dict[str, dict[str, Any]] = {
    "TRL nll": {"loss_type": "nll"},
    "TRL chunked_nll": {"loss_type": "chunked_nll"},
    "sft": {"method": "sft"},
    "TRL dft": {"loss_type": "dft"},
    "dft": {"method": "dft"},
    "target-sft": {"method": "target-sft", "method_kwargs": {"eta": 0.5}},
    "TRL nll, again": {"loss_type": "nll"},
}
"""TRL's nll comes first and last: what lies between its two figures is noise."""


def steps_of(steps: int, by: int = 1, model: Model = BILLION) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each trainer's figures, as soon as they are there. A training that fails says why in their place.

    Args:
        steps: of each training; the first sixth is not timed.
        by: divides vocabulary, feed-forward layers and rows' length, to try the script.
    """
    quiet()
    sizes = replace(model, vocab=model.vocab // by, feed_forward=model.feed_forward // by, length=model.length // by)
    rows = concatenate_datasets([rows_of(sizes)] * steps)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def opened(dtype: torch.dtype) -> torch.nn.Module:
        with torch.device(device):
            return model_of(sizes).to(dtype)

    for name, given in TRAINERS.items():
        try:
            row = measured(given, opened, lab.tokenizer(lab.world(TOKENIZER)), rows, steps, sizes.rows)
        except Exception as error:  # one that does not fit, or is not in this TRL, ends no other
            row = {"failed": f"{type(error).__name__}: {error}"[:400]}
        print(f"{name:20} failed: {row['failed']}" if "failed" in row else told(name, row), flush=True)
        yield name, row
