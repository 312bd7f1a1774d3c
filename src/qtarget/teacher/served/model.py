"""The model on the server, and what the server says about it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from qtarget.console import SafeConsole
from qtarget.models.identity import tokenizer_identity, weights_identity
from qtarget.models.loading import tokenizer_of
from qtarget.models.pickled_weights import ALLOW
from qtarget.models.same_tokens import number_of_tokens
from qtarget.teacher.cache.captured import CapturedMass
from qtarget.teacher.distributions import Keep, kept_logprobs
from qtarget.teacher.documents import Document
from qtarget.teacher.live import LiveModel, load_live_model
from qtarget.teacher.padding import check_padding
from qtarget.teacher.served.wire import Health, Limits, pack_answer

SERVED_DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A model, its `Health`, and its map from tokens to ids as JSON. One thread at a time may ask it.

    Attributes:
        told: the K for which it was looked at how much of the model they capture.
    """

    live: LiveModel
    health: Health
    tokens: bytes
    told: set[int] = field(default_factory=set)

    def answer(self, documents: Sequence[Document], keep: Keep) -> bytes:
        """What is kept about the documents, packed. Once for each K, too small a captured mass is said on the
        terminal."""
        kept = kept_logprobs(self.live, documents, keep, self.health.limits.batch_tokens)
        captured = CapturedMass.of(kept, self.health.vocab) if keep.how == "top" else None
        # One token is the question by which a client opens the server: it says nothing of its rows.
        if captured is not None and len(kept.log_tail) > 1 and keep.k not in self.told:
            self.told.add(keep.k)
            if warning := captured.warning(f"What a client asked of {self.health.model}"):
                SafeConsole(stderr=True, soft_wrap=True).print(warning, style="yellow")
        return pack_answer(kept)


def load_served_model(source: str, dtype: str, limits: Limits, allow_pickled_weights: bool = False) -> ServedModel:
    """Load a model from a directory or the hub, onto the accelerator where there is one.

    Raises:
        ValueError: an unknown dtype, or a model without its own tokenizer.
    """
    if dtype not in SERVED_DTYPES:
        raise ValueError(f"dtype is {dtype!r}; expected one of {', '.join(SERVED_DTYPES)}.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = tokenizer_of(source)
    assert tokenizer is not None  # a path has one, or was refused
    loading = {ALLOW: True} if allow_pickled_weights else {}
    model = load_live_model(source, "teacher", device=device, dtype=dtype, init_kwargs=loading)
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
    weights, digest = weights_identity(source), tokenizer_identity(tokenizer)
    loaded_dtype = str(model.dtype).removeprefix("torch.")
    identity = hashlib.sha256(f"{weights} {digest} {loaded_dtype}".encode()).hexdigest()[:32]
    health = Health(name, identity, weights, digest, vocab, loaded_dtype, limits)
    return ServedModel(live, health, json.dumps(tokenizer.get_vocab()).encode())
