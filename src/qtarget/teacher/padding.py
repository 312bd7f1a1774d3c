"""Rows of an output layer that stand for no token, and the mass that a model puts on them."""

import warnings
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from qtarget.models.causal_lm import input_device, layer_rows
from qtarget.target.source_logits import dense_logits
from qtarget.teacher.live import LiveModel

PROBE = "The answer is 42, because 6 * 7 = 42. So we write: return 42;"
NOTICED, REFUSED = 0.01, 0.5
"""Shares of the mass on rows without a token: more than the first is warned about, more than the second refused."""


def check_padding(model: LiveModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Measure, on a line of text, the mass that a model puts on rows without a token; in a target they get none.

    A model that puts much mass there was trained with another tokenizer.

    Raises:
        ValueError: the mass is more than one half.
    """
    layer: Any = model.model.get_output_embeddings()
    if model.vocab is None or model.vocab >= layer_rows(layer.weight):
        return
    text: Any = tokenizer(PROBE, add_special_tokens=False)["input_ids"]  # nothing where no word of it is known
    ids = torch.tensor([text or list(range(min(model.vocab, 16)))], device=input_device(model.model))
    mass = _mass_beyond(model, ids)
    measured = (
        f"The {name} puts {mass:.1%} of its mass on rows of its output layer that stand for no token (from "
        f"{model.vocab} on), measured on a line of text"
    )
    if mass > REFUSED:
        raise ValueError(f"{measured}; it does not belong to this tokenizer. Load the tokenizer it was trained with.")
    if mass > NOTICED:
        warnings.warn(f"{measured}. That mass is left out, and the rest renormalised.", stacklevel=2)


def _mass_beyond(model: LiveModel, ids_1S: Tensor) -> float:
    evidence = model.evidence({"input_ids": ids_1S})
    probability = dense_logits(replace(evidence, vocab=None)).float().softmax(-1)
    return float(probability[..., model.vocab :].sum(-1).mean())
