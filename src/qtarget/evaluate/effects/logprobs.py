"""Next-token distributions of models along given texts, in float64, a chunk of tokens at a time."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from qtarget.models.causal_lm import head_of, hidden_states, input_device
from qtarget.target.source_logits import head_logits

_CHUNK_BYTES = 1 << 26
"""Size of one float64 buffer over the vocabulary, in bytes."""


class TokenRow(NamedTuple):
    """A text as token ids. Those from `start` on are predicted, each from all before it."""

    ids: tuple[int, ...]
    start: int


class TokenChunk(NamedTuple):
    """Some tokens of the rows, and what each of M models expected in their place.

    Attributes:
        logp_MTV: log-probabilities in nats, over the same vocabulary for all models.
        labels_T: the tokens of the text.
    """

    logp_MTV: Tensor
    labels_T: Tensor


def token_row(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str) -> TokenRow:
    """A prompt and its completion as training sees them: the completion with the end token, given the prompt."""
    end: Any = tokenizer.eos_token or ""
    whole: Any = tokenizer(prompt + completion.removesuffix(end) + end)["input_ids"]
    before: Any = tokenizer(prompt)["input_ids"]
    return TokenRow(tuple(whole), len(before))


@torch.no_grad()
def chunks(models: Sequence[PreTrainedModel], rows: Sequence[TokenRow], batch_size: int) -> Iterator[TokenChunk]:
    """The distributions of every model at the tokens of the rows. The models are put in evaluation mode.

    Rows are batched by length and padded; padding is no token of a chunk. Where the models' output layers differ
    in their padding, the rows that only one has are left out.
    """
    by_length = sorted((row for row in rows if len(row.ids) > max(row.start, 1)), key=lambda row: len(row.ids))
    for start in range(0, len(by_length), batch_size):
        batch = by_length[start : start + batch_size]
        hidden_MTH, labels_T = zip(*(_hidden(model.eval(), batch) for model in models), strict=True)
        yield from _distributions([head_of(model) for model in models], hidden_MTH, labels_T[0])


def _hidden(model: PreTrainedModel, rows: Sequence[TokenRow]) -> tuple[Tensor, Tensor]:
    """The hidden states that predict each token from a row's `start` on [T, H], and those tokens [T]."""
    longest = max(len(row.ids) for row in rows)
    ids_BS = torch.tensor([[*row.ids, *[row.ids[-1]] * (longest - len(row.ids))] for row in rows])
    places_S = torch.arange(longest)
    length_B1 = torch.tensor([[len(row.ids)] for row in rows])
    first_B1 = torch.tensor([[max(row.start, 1)] for row in rows])
    mask_BS = (places_S < length_B1).long()
    is_seen_BS = (places_S >= first_B1) & (places_S < length_B1)
    home = input_device(model)
    hidden_BSH = hidden_states(model, {"input_ids": ids_BS.to(home), "attention_mask": mask_BS.to(home)})
    before_BS = is_seen_BS[:, 1:].to(hidden_BSH.device)
    return hidden_BSH[:, :-1][before_BS], ids_BS[:, 1:][is_seen_BS[:, 1:]].to(hidden_BSH.device)


def _distributions(heads: Sequence[Any], hidden_MTH: Sequence[Tensor], labels_T: Tensor) -> Iterator[TokenChunk]:
    vocabulary = min(head.weight.shape[0] for head in heads)
    size = max(1, _CHUNK_BYTES // (8 * vocabulary))
    for start in range(0, len(labels_T), size):
        parts = [
            head_logits(hidden_TH[start : start + size].to(head.weight), head)[:, :vocabulary].double().log_softmax(-1)
            for head, hidden_TH in zip(heads, hidden_MTH, strict=True)
        ]
        yield TokenChunk(torch.stack([part.to(labels_T.device) for part in parts]), labels_T[start : start + size])
