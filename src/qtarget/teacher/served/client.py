"""The client of a served teacher: splits requests to the size that the server takes, and checks every answer."""

import json
from collections.abc import Callable, Iterator, Sequence
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
    """A server's teacher, a `LogprobStore`. Made by `open_teacher`; it can be pickled and sent to other processes.

    Attributes:
        url: the server's address.  keep: what is to be kept of each distribution.
        health: what the server said about itself when it was opened.
        patience: seconds that the server may be away.
    """

    url: str
    keep: Keep
    health: Health
    patience: float = 600.0
    is_remote: bool = field(default=True, init=False)

    @property
    def vocab(self) -> int:
        return self.health.vocab

    @property
    def has_entropy(self) -> bool:
        return True

    @property
    def weights(self) -> str:
        return self.health.weights

    @property
    def dtype(self) -> str:
        return self.health.dtype

    @property
    def identity(self) -> str:
        return self.health.identity

    def answer(self, documents: Sequence[Document], on_batch: Callable[[int], None] | None = None) -> KeptLogprobs:
        """What is kept about every supervised token, document after document.

        Args:
            on_batch: called after each request with the number of supervised tokens in it.

        Raises:
            TeacherUnavailableError: the server was away for longer than `patience`.
            ValueError: the server refuses, answers what cannot be right, or has another model than at the start.
        """
        found = []
        for part in in_parts(documents, self.health.limits.batch_tokens, self._check_length):
            found.append(self._answer_part(part))
            if on_batch is not None:
                on_batch(len(found[-1].log_tail))
        return concatenated(found, self.keep.k)

    def _check_length(self, document: Document) -> None:
        length, limit = len(document.ids), self.health.limits.batch_tokens
        if length > limit:
            raise ValueError(
                f"A document has {length} tokens, and the teacher at {self.url} takes {limit} at once; start it "
                f"with `--batch-tokens {length}` or more, or write `max_length: {limit}`."
            )

    def _answer_part(self, documents: Sequence[Document]) -> KeptLogprobs:
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


def in_parts(
    documents: Sequence[Document], limit: int, check_length: Callable[[Document], None]
) -> Iterator[list[Document]]:
    """The documents in order, cut into parts of at most `limit` tokens, one document at least."""
    part, tokens = [], 0
    for document in documents:
        check_length(document)
        if part and tokens + len(document.ids) > limit:
            yield part
            part, tokens = [], 0
        part.append(document)
        tokens += len(document.ids)
    if part:
        yield part


def open_teacher(url: str, keep: Keep, tokenizer: PreTrainedTokenizerBase, *, patience: float = 600.0) -> ServedTeacher:
    """Open a served teacher, after checking that it has the student's tokens and answers a question about one.

    Args:
        url: as in `http://127.0.0.1:8321`. The token for it, where it wants one, is in QTARGET_TEACHER_TOKEN.
        tokenizer: the student's.
        patience: seconds that the server may be away during the training; on opening it is waited for a minute at most.

    Raises:
        TeacherUnavailableError: nothing answers there.
        ValueError: the address, what answers there, its tokens or its limits are wrong.
    """
    url = checked_url(url, "`teacher: {}`", TOKEN_VARIABLE)
    body = ask(url, "/health", limit=HEALTH_BYTES, patience=min(patience, OPENING_S)).body
    try:
        health = Health.from_json(body)
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
    """Refuse a teacher whose map from tokens to ids is not the student's, naming the first that differ."""
    if teacher.health.tokens == tokenizer_identity(tokenizer):
        return
    name = f"teacher at {teacher.url}"
    body = ask(teacher.url, "/tokens", limit=TOKENS_BYTES, patience=OPENING_S).body
    check_same_map(tokenizer.get_vocab(), _token_map(body, name), name)
    raise ValueError(f"The {name} says two things of its tokens: /health and /tokens do not agree.")


def _token_map(body: bytes, name: str) -> dict[str, int]:
    try:
        tokens = json.loads(body)
    except (ValueError, RecursionError):
        tokens = None
    if not isinstance(tokens, dict) or not all(isinstance(index, int) for index in tokens.values()):
        raise ValueError(f"The {name} does not say which tokens it speaks; its /tokens is no map.")
    return tokens
