"""What client and server send each other: tensors as safetensors, which hold no code that could run.

A question holds `ids` `[N]` int32 and `asked` `[N]` bool of all documents end to end, and their `lengths` `[D]` int32;
what to keep of each distribution is in the metadata. An answer holds the fields of `KeptLogprobs`. Both are checked
before they are used: a question before the model sees it, an answer before the student does.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from qtarget.teacher.distributions import Keep, KeptLogprobs
from qtarget.teacher.documents import Document

WIRE_VERSION = 1
IDENTITY_HEADER = "x-qtarget-teacher"
BINARY = "application/octet-stream"
TOKEN_VARIABLE = "QTARGET_TEACHER_TOKEN"  # noqa: S105  (a name)
"""The environment variable that holds a server's secret, on both sides."""
HEADER_BYTES = 4096
"""Room for the header of safetensors."""
SLACK = 1e-3
"""Nats by which a mass may exceed 1, or two figures of one token differ, by rounding."""
QUESTION = {"ids": torch.int32, "asked": torch.bool, "lengths": torch.int32}
FLOATS = ("logprobs", "log_tail", "label_logprobs", "entropy")


@dataclass(frozen=True)
class Limits:
    """What a server takes.

    Attributes:
        top_k: tokens kept of a distribution, at most.
        batch_tokens: tokens in one request, and through the model at once, padding included.
        waiting: requests that may wait while one is answered.
    """

    top_k: int = 256
    batch_tokens: int = 8192
    waiting: int = 16


@dataclass(frozen=True)
class Health:
    """What a server says about itself.

    Attributes:
        model: a name for people to read.  identity: 32 digits that differ for another model, tokenizer or dtype.
        weights, tokens: identity of the weights; digest of the map from tokens to ids.
        vocab: ids below this are tokens.  limits: of a request.
    """

    model: str
    identity: str
    weights: str
    tokens: str
    vocab: int
    dtype: str
    limits: Limits
    protocol: int = WIRE_VERSION

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: bytes) -> "Health":
        """The health in a server's reply; ValueError for what is none."""
        try:
            given = json.loads(text)
            if given["protocol"] != WIRE_VERSION:
                raise ValueError(f"it speaks version {given['protocol']} of the protocol, and this side {WIRE_VERSION}")
            return Health(**{**given, "limits": Limits(**given["limits"])})._checked()
        except (KeyError, TypeError, RecursionError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError("its /health is not that of a teacher") from error

    def _checked(self) -> "Health":
        numbers = (self.vocab, *asdict(self.limits).values())
        texts = (self.model, self.identity, self.weights, self.tokens, self.dtype)
        if not all(type(n) is int and n >= 0 for n in numbers) or not all(isinstance(t, str) for t in texts):
            raise TypeError
        return self


def question_bytes(tokens: int) -> int:
    """Bytes of the largest question about so many tokens."""
    return HEADER_BYTES + 9 * tokens


def answer_bytes(tokens: int, k: int) -> int:
    """Bytes of the largest answer about so many tokens."""
    return HEADER_BYTES + (8 * k + 12) * tokens


def pack_question(documents: Sequence[Document], keep: Keep) -> bytes:
    """A request as safetensors: token ids of the documents end to end, which are asked about, and what to keep."""
    tensors = {
        "ids": torch.from_numpy(np.concatenate([d.ids for d in documents])),
        "asked": torch.from_numpy(np.concatenate([d.asked for d in documents])),
        "lengths": torch.tensor([len(d.ids) for d in documents], dtype=torch.int32),
    }
    metadata = {"protocol": str(WIRE_VERSION), **{name: str(value) for name, value in asdict(keep).items()}}
    return safetensors.torch.save(tensors, metadata)


def unpack_question(body: bytes, vocab: int) -> tuple[list[Document], Keep]:
    """The documents, and what to keep of each distribution; ValueError for what is no question."""
    tensors = _tensors(body, QUESTION)
    keep = _keep(_metadata(body))
    ids, asked, lengths = (tensors[name].numpy() for name in QUESTION)
    if any(array.ndim != 1 for array in (ids, asked, lengths)) or not len(ids) == len(asked) == lengths.sum():
        raise ValueError("`ids` and `asked` must be [N], and `lengths` [D] must add up to N")
    if not len(lengths) or lengths.min() < 1:
        raise ValueError("every document needs a token, and a question needs a document")
    if ids.min() < 0 or ids.max() >= vocab:
        raise ValueError(f"token id {ids.min() if ids.min() < 0 else ids.max()} is outside the vocabulary of {vocab}")
    bounds = np.cumsum([0, *lengths])
    if asked[bounds[:-1]].any():
        raise ValueError("the first token of a document is asked about, and nothing stands before it")
    return [Document(ids[start:stop], asked[start:stop]) for start, stop in pairwise(bounds)], keep


def _keep(metadata: Mapping[str, str]) -> Keep:
    if metadata.get("protocol") != str(WIRE_VERSION):
        raise ValueError(f"version {metadata.get('protocol')} of the protocol; this server speaks {WIRE_VERSION}")
    how: Any = metadata.get("how")
    k, temperature = int(metadata.get("k", "")), float(metadata.get("temperature", ""))
    if how not in ("top", "sampled") or k < (how == "sampled") or not 0 < temperature < math.inf:
        raise ValueError("how must be top (k ≥ 0) or sampled (k ≥ 1), at a temperature above 0")
    return Keep(k, how, temperature)


def pack_answer(kept: KeptLogprobs) -> bytes:
    """A response as safetensors: what was kept of each asked token, in order."""
    return safetensors.torch.save({name: value.contiguous() for name, value in kept._asdict().items()})


def unpack_answer(body: bytes, targets_T: Tensor, keep: Keep, vocab: int) -> KeptLogprobs:
    """What the server kept about the supervised tokens `targets_T`; ValueError for what cannot be right."""
    tensors = _tensors(body, {"ids": torch.int32, **dict.fromkeys(FLOATS, torch.float32)})
    kept = KeptLogprobs(**tensors)
    check_kept_answer(kept, targets_T, keep, vocab)
    return kept


def check_kept_answer(kept: KeptLogprobs, targets_T: Tensor, keep: Keep, vocab: int) -> None:
    """Refuse what cannot be kept of the supervised tokens `targets_T`: other shapes, tokens, masses; NaN."""
    shape, tensors = (len(targets_T), min(keep.k, vocab)), kept._asdict()
    wrong = {n: tuple(v.shape) for n, v in tensors.items() if v.shape != (shape if v.ndim == 2 else shape[:1])}
    if wrong or kept.ids.ndim != 2 or kept.logprobs.ndim != 2:
        shown = wrong or {name: tuple(value.shape) for name, value in tensors.items()}
        raise ValueError(f"{shape[0]} tokens were asked about and {shape[1]} are kept of each; it sent {shown}")
    _check_values(kept)
    if shape[1]:
        _check_ids(kept.ids, vocab)
        if keep.how == "top":
            _check_label(kept, targets_T, keep)
            _check_mass(kept)


def _check_values(kept: KeptLogprobs) -> None:
    """Refuse log-probabilities above 0, entropies below 0, and NaN."""
    if any(getattr(kept, name).isnan().any() for name in FLOATS):
        raise ValueError("it holds NaN")
    if any((getattr(kept, name) > SLACK).any() for name in FLOATS[:3]):
        raise ValueError("a log-probability is above 0")
    if (kept.entropy < -SLACK).any() or kept.entropy.isinf().any():
        raise ValueError("an entropy is below 0 or infinite")


def _check_ids(ids_TK: Tensor, vocab: int) -> None:
    sorted_TK = ids_TK.sort(-1).values
    if ids_TK.numel() and (sorted_TK[:, 0].min() < 0 or sorted_TK[:, -1].max() >= vocab):
        raise ValueError(f"a kept id is outside the vocabulary of {vocab}")
    if (sorted_TK[:, 1:] == sorted_TK[:, :-1]).any():
        raise ValueError("an id is kept twice for one token")


def _check_label(kept: KeptLogprobs, targets_T: Tensor, keep: Keep) -> None:
    """Refuse an answer in which a label is not kept, or has two log-probabilities: it is about other tokens."""
    is_label_TK = kept.ids == targets_T[:, None]
    if not is_label_TK.any(-1).all():
        raise ValueError("a label is not among the kept ids, so the answer is about other tokens")
    if keep.temperature == 1 and not torch.allclose(kept.logprobs[is_label_TK], kept.label_logprobs, 0, SLACK):
        raise ValueError("the label's log-probability is not that of its place among the kept ids")


def _check_mass(kept: KeptLogprobs) -> None:
    mass_T = torch.cat([kept.logprobs, kept.log_tail[:, None]], -1).logsumexp(-1)
    if (mass_T.abs() > SLACK).any():
        worst = float(mass_T.exp()[mass_T.abs().argmax()])
        raise ValueError(f"the kept tokens and the rest together have mass {worst:.4f}, and not 1")


def _tensors(body: bytes, expected: Mapping[str, torch.dtype]) -> dict[str, Tensor]:
    try:
        tensors = safetensors.torch.load(body)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ValueError("it is not safetensors") from error
    types = {name: value.dtype for name, value in tensors.items()}
    if types != dict(expected):
        raise ValueError(f"it must hold {sorted(expected)} and holds {sorted(tensors)}, or of other types")
    return tensors


def _metadata(body: bytes) -> dict[str, str]:
    """The metadata of safetensors, which its library reads from files only. The header is known to parse."""
    return json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")]).get("__metadata__") or {}
