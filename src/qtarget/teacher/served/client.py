"""A teacher behind an address, to the training: asked in pieces that it takes, and not believed unchecked."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from qtarget.models.identity import tokenizer_identity
from qtarget.models.same_tokens import check_same_map
from qtarget.servers.http import checked_url
from qtarget.teacher.distributions import Keep, KeptLogprobs, concatenated
from qtarget.teacher.documents import Document
from qtarget.teacher.served.transport import ask
from qtarget.teacher.served.wire import (
    IDENTITY_HEADER,
    TOKEN_VARIABLE,
    Health,
    answer_bytes,
    pack_question,
    unpack_answer,
)

OPENING_S = 60.0
"""Seconds that a server which was never there is waited for."""
HEALTH_BYTES, TOKENS_BYTES = 1 << 16, 1 << 28


@dataclass(eq=False)
class ServedTeacher:
    """What a server keeps of its teacher's distributions. Made by `open_teacher`; safe to send to other processes.

    Attributes:
        url: its address.  keep: what it is asked to keep.  health: what it said about itself at first.
        patience: seconds that it may be away.
    """

    url: str
    keep: Keep
    health: Health
    patience: float = 600.0
    is_remote: bool = field(default=True, init=False)

    def answer(self, documents: Sequence[Document]) -> KeptLogprobs:
        """What is kept about every asked token, document after document.

        Raises:
            TeacherUnavailableError: it was away for longer than `patience`.
            ValueError: it refuses, answers what cannot be, or has become another model.
        """
        return concatenated([self._asked(part) for part in self._parts(documents)], self.keep.k)

    def _parts(self, documents: Sequence[Document]) -> Iterator[list[Document]]:
        """Documents in order, at most as many tokens at once as the server takes."""
        limit, part, tokens = self.health.limits.batch_tokens, [], 0
        for document in documents:
            length = len(document.ids)
            if length > limit:
                raise ValueError(
                    f"A document has {length} tokens, and the teacher at {self.url} takes {limit} at once; start it "
                    f"with `--batch-tokens {length}` or more, or write `max_length: {limit}`."
                )
            if tokens + length > limit:
                yield part
                part, tokens = [], 0
            part.append(document)
            tokens += length
        if part:
            yield part

    def _asked(self, documents: Sequence[Document]) -> KeptLogprobs:
        targets = torch.from_numpy(np.concatenate([document.targets for document in documents]))
        question, limit = pack_question(documents, self.keep), answer_bytes(len(targets), self.keep.k)
        reply = ask(self.url, "/answers", limit=limit, patience=self.patience, body=question)
        identity = reply.headers.get(IDENTITY_HEADER)
        if identity != self.health.identity:
            raise ValueError(
                f"The teacher at {self.url} is another than at the start ({identity}, and not "
                f"{self.health.identity}); one run has one teacher. Serve {self.health.model} ({self.health.dtype}) "
                "there again, or start the run anew."
            )
        try:
            return unpack_answer(reply.body, targets, self.keep, self.health.vocab)
        except ValueError as error:
            raise ValueError(
                f"The teacher at {self.url} answers what cannot be right: {error}. Nothing was learned from it; see "
                "the server's log, and whether client and server are of one version of qtarget."
            ) from error


def open_teacher(url: str, keep: Keep, tokenizer: PreTrainedTokenizerBase, *, patience: float = 600.0) -> ServedTeacher:
    """A served teacher that speaks the student's tokens and answers, seen by asking it about one.

    Args:
        url: as in `http://127.0.0.1:8321`. The token for it, where it wants one, is in QTARGET_TEACHER_TOKEN.
        tokenizer: the student's.
        patience: seconds that the server may be away later on; now it is waited for a minute at most.

    Raises:
        TeacherUnavailableError: nothing answers there.
        ValueError: the address, what answers there, its tokens or its limits are wrong.
    """
    url = checked_url(url, "`teacher: {}`", TOKEN_VARIABLE)
    said = ask(url, "/health", limit=HEALTH_BYTES, patience=min(patience, OPENING_S)).body
    try:
        health = Health.from_json(said)
    except ValueError as error:
        raise ValueError(
            f"What answers at {url} is no teacher: {error}. Write the address that `qtarget teacher serve MODEL` "
            "prints."
        ) from error
    teacher = ServedTeacher(url, keep, health, patience)
    _check_limits(teacher)
    _check_tokens(teacher, tokenizer)
    teacher.answer([Document(np.zeros(2, np.int32), np.array([False, True]))])
    return teacher


def _check_limits(teacher: ServedTeacher) -> None:
    k, limit = teacher.keep.k, teacher.health.limits.top_k
    if k > limit:
        raise ValueError(
            f"{k} tokens are to be kept of each distribution, and the teacher at {teacher.url} keeps {limit}; start it "
            f"with `qtarget teacher serve MODEL --top-k-limit {k}`."
        )


def _check_tokens(teacher: ServedTeacher, tokenizer: PreTrainedTokenizerBase) -> None:
    """The token→id maps are equal, by their digests; where they are not, both are laid side by side."""
    if teacher.health.tokens == tokenizer_identity(tokenizer):
        return
    name = f"teacher at {teacher.url}"
    said = ask(teacher.url, "/tokens", limit=TOKENS_BYTES, patience=OPENING_S).body
    check_same_map(tokenizer.get_vocab(), _token_map(said, name), name)
    raise ValueError(f"The {name} says two things of its tokens: /health and /tokens do not agree.")


def _token_map(said: bytes, name: str) -> dict[str, int]:
    try:
        found = json.loads(said)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(index, int) for index in found.values()):
        raise ValueError(f"The {name} does not say which tokens it speaks; its /tokens is no map.")
    return found
