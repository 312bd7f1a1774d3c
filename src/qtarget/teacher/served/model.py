"""The model on the server, asked by one thread."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from qtarget.models.identity import tokenizer_identity, weights_identity
from qtarget.models.loading import tokenizer_of
from qtarget.models.same_tokens import number_of_tokens
from qtarget.teacher.distributions import Keep, answers
from qtarget.teacher.documents import Document
from qtarget.teacher.live import LiveModel, load_live_model
from qtarget.teacher.padding import check_padding
from qtarget.teacher.served.wire import Health, Limits, pack_answer

SERVED_DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A model, what is said about it, and its map from tokens to ids as JSON."""

    live: LiveModel
    health: Health
    tokens: bytes

    def answer(self, documents: Sequence[Document], keep: Keep) -> bytes:
        return pack_answer(answers(self.live, documents, keep, self.health.limits.batch_tokens))


def load_served_model(source: str, dtype: str, limits: Limits) -> ServedModel:
    """A model from a directory or the hub, on the accelerator where there is one.

    Raises:
        ValueError: an unknown dtype, or a model without its own tokenizer.
    """
    if dtype not in SERVED_DTYPES:
        raise ValueError(f"dtype is {dtype!r}; expected one of {', '.join(SERVED_DTYPES)}.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = tokenizer_of(source)
    assert tokenizer is not None  # a path has one, or was refused
    model = load_live_model(source, "teacher", device=device, dtype=dtype)
    vocab = number_of_tokens(tokenizer.get_vocab())
    rows = model.get_output_embeddings().weight.shape[0]  # type: ignore[union-attr]
    if not 0 < vocab <= rows:
        raise ValueError(
            f"{source} has a tokenizer of {vocab} tokens and an output layer of {rows} rows; load the tokenizer it was "
            f"trained with, and save it there: `tokenizer.save_pretrained('{source}')`."
        )
    live = LiveModel(model, vocab)
    check_padding(live, tokenizer, "teacher")
    name = Path(source).resolve().name if Path(source).is_dir() else source
    weights, digest, found = weights_identity(source), tokenizer_identity(tokenizer), str(model.dtype)[6:]
    identity = hashlib.sha256(f"{weights} {digest} {found}".encode()).hexdigest()[:32]
    health = Health(name, identity, weights, digest, vocab, found, limits)
    return ServedModel(live, health, json.dumps(tokenizer.get_vocab()).encode())
