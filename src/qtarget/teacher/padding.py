"""Rows of an output layer that stand for no token, and the mass that a model puts on them."""

import warnings
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from qtarget.models.causal_lm import home_of
from qtarget.target.statistics import dense_logits
from qtarget.teacher.live import LiveModel

PROBE = "The answer is 42, because 6 * 7 = 42. So we write: return 42;"
NOTICED, REFUSED = 0.01, 0.5
"""Mass on rows without a token that is warned about, and that is refused."""


def check_padding(model: LiveModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Measure, on a line of text, the mass that the rows without a token would take. They get none; a model that puts
    much there is not the one that the tokenizer belongs to.

    Raises:
        ValueError: more than half of the mass.
    """
    layer: Any = model.model.get_output_embeddings()
    if model.vocab is None or model.vocab >= layer.weight.shape[0]:
        return
    text: Any = tokenizer(PROBE, add_special_tokens=False)["input_ids"]  # nothing where no word of it is known
    ids = torch.tensor([text or list(range(min(model.vocab, 16)))], device=home_of(model.model))
    mass = _mass_beyond(model, ids)
    said = (
        f"The {name} puts {mass:.1%} of its mass on rows of its output layer that stand for no token (from "
        f"{model.vocab} on), measured on a line of text"
    )
    if mass > REFUSED:
        raise ValueError(f"{said}; it does not belong to this tokenizer. Load the tokenizer it was trained with.")
    if mass > NOTICED:
        warnings.warn(f"{said}. That mass is left out, and the rest renormalised.", stacklevel=2)


def _mass_beyond(model: LiveModel, ids_1S: Tensor) -> float:
    evidence = model.evidence({"input_ids": ids_1S})
    probability = dense_logits(replace(evidence, vocab=None)).float().softmax(-1)
    return float(probability[..., model.vocab :].sum(-1).mean())
