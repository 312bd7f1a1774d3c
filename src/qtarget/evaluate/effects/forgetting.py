"""Forgetting: how far a model has moved from its base, measured on text that the base wrote."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from qtarget.evaluate.effects.logprobs import TokenRow, chunks
from qtarget.evaluate.generators.drawing import draw
from qtarget.evaluate.generators.sampling import seed_of
from qtarget.evaluate.nouns import SamplingProtocol

TextOrIds = str | Sequence[int]


@dataclass(frozen=True)
class Forgetting:
    """How a model sees text that its base wrote, a mean over its tokens, in nats a token.

    Attributes:
        kl: KL(base ‖ model) of the whole next-token distributions. 0 where nothing was forgotten.
        nll: of the base's text under the model.
        base_nll: of it under the base itself: `nll − base_nll` estimates `kl` from the drawn tokens alone.
    """

    kl: float
    nll: float
    base_nll: float
    tokens: int
    texts: int


def forgetting(
    model: PreTrainedModel,
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[TextOrIds],
    *,
    max_new_tokens: int = 256,
    batch_size: int = 64,
    seed: int = 0,
) -> Forgetting:
    """Let the base answer every prompt once, at temperature 1, and compare both models on what it wrote.

    KL on the base's own text is what forgetting of other tasks follows (arXiv 2509.04259). The same base, prompts
    and seed give the same text, so models are compared on one text. See `base_text` to draw it once for several.

    Args:
        prompts: texts or token ids, used as they stand.

    Raises:
        ValueError: no prompt.
    """
    rows = base_text(base, tokenizer, prompts, max_new_tokens=max_new_tokens, batch_size=batch_size, seed=seed)
    return divergence(model, base, rows, batch_size=batch_size)


def base_text(
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[TextOrIds],
    *,
    max_new_tokens: int = 256,
    batch_size: int = 64,
    seed: int = 0,
) -> list[TokenRow]:
    """One completion of every prompt by the base, at temperature 1."""
    protocol = SamplingProtocol("plain", k=1, temperature=1.0, max_new_tokens=max_new_tokens)
    ids = [_ids(tokenizer, prompt) for prompt in prompts]
    seeds = [seed_of(seed, f"base text {place}", 0) for place in range(len(ids))]
    drawn = draw(base, tokenizer, ids, seeds, protocol, batch_size=batch_size)
    return [TokenRow((*prompt, *new), len(prompt)) for prompt, new in zip(ids, drawn, strict=True)]


def divergence(
    model: PreTrainedModel, base: PreTrainedModel, rows: Sequence[TokenRow], *, batch_size: int = 64
) -> Forgetting:
    """Compare both models on the same rows; sums are in float64.

    Raises:
        ValueError: rows without a token to predict.
    """
    kl = nll = base_nll = 0.0
    tokens = 0
    for (base_TV, model_TV), labels_T in chunks((base, model), rows, batch_size):
        kl += float((base_TV.exp() * (base_TV - model_TV)).masked_fill(base_TV.isneginf(), 0.0).sum())
        nll -= float(model_TV.gather(-1, labels_T[:, None]).sum())
        base_nll -= float(base_TV.gather(-1, labels_T[:, None]).sum())
        tokens += len(labels_T)
    if not tokens:
        raise ValueError("There is no text to compare the models on; give at least one prompt.")
    return Forgetting(kl / tokens, nll / tokens, base_nll / tokens, tokens, len(rows))


def _ids(tokenizer: PreTrainedTokenizerBase, prompt: TextOrIds) -> list[int]:
    ids: Any = tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else prompt
    return list(ids)
