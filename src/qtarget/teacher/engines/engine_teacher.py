"""The client of a teacher behind an inference engine, the twin of the client of `qtarget teacher serve`."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from qtarget.models.same_tokens import number_of_tokens
from qtarget.servers.http import checked_url, without_engine, without_version
from qtarget.teacher.background import at_once
from qtarget.teacher.distributions import Keep, KeptLogprobs, concatenated
from qtarget.teacher.documents import Document
from qtarget.teacher.engines.dialect import NEUTRAL, Dialect
from qtarget.teacher.engines.engine_server import IN_FLIGHT, EngineServer
from qtarget.teacher.engines.handshake import Handshake, shake_hands
from qtarget.teacher.engines.scored_tokens import kept_of_prompt
from qtarget.teacher.engines.sglang_dialect import SglangDialect
from qtarget.teacher.engines.vllm_dialect import VllmDialect
from qtarget.teacher.served.client import OPENING_S, in_parts
from qtarget.teacher.served.wire import TOKEN_VARIABLE, check_kept_answer
from qtarget.teacher.source_name import ENGINES, engine_of

PART_TOKENS = 2048
"""Tokens in one request, at most, but for a document that is longer: its answer is some megabytes of JSON."""
DIALECTS: dict[str, Dialect] = dict(zip(ENGINES, (VllmDialect(), SglangDialect()), strict=True))
"""By what stands before the + of an address."""


@dataclass(eq=False)
class EngineTeacher:
    """An inference engine's teacher, a `ServedStore`. Made by `open_engine`; it can be pickled.

    Attributes:
        server: how it is asked.  keep: what is to be kept of each distribution.
        known: what was found out about it when it was opened.
    """

    server: EngineServer
    keep: Keep
    known: Handshake
    is_remote: bool = field(default=True, init=False)

    @property
    def url(self) -> str:
        return f"{self.server.dialect.name.lower()}+{self.server.url}"

    @property
    def vocab(self) -> int:
        return self.known.vocab

    @property
    def has_entropy(self) -> bool:
        """With fewer tokens than all, a lower bound of it is known."""
        return self.keep.k >= self.vocab

    @property
    def weights(self) -> str:
        """The model by its name: what weights a server holds it does not say."""
        return f"{self.known.facts.weights}, served by {self.server.dialect.name}"

    @property
    def dtype(self) -> str:
        """What computed; in which precision, a server does not say."""
        return f"{self.server.dialect.name} {self.known.facts.version}".rstrip()

    @property
    def identity(self) -> str:
        """Differs for another model by name, and another tokenizer's size."""
        return hashlib.sha256(f"{self.weights} {self.vocab}".encode()).hexdigest()[:32]

    def answer(self, documents: Sequence[Document], on_batch: Callable[[int], None] | None = None) -> KeptLogprobs:
        """What is kept about every supervised token, document after document; several requests are under way at once.

        Args:
            on_batch: called after each request with the number of supervised tokens in it.

        Raises:
            TeacherUnavailableError: the server was away for longer than its patience.
            ValueError: it refuses, answers what cannot be right, or has another model than at the start.
        """
        parts = list(in_parts(documents, PART_TOKENS, self._check_length))

        def of_part(part: list[Document]) -> KeptLogprobs:
            kept = self._answer_part(part)
            if on_batch is not None:
                on_batch(len(kept.log_tail))
            return kept

        return concatenated(at_once(of_part, parts, IN_FLIGHT), min(self.keep.k, self.vocab))

    def _check_length(self, document: Document) -> None:
        facts, length = self.known.facts, len(document.ids)
        if length > facts.longest:
            command = self.server.command(facts, self.keep.k, length)
            raise ValueError(
                f"A document has {length} tokens, and the teacher at {self.server.url} takes {facts.longest} at once; "
                f"start it with: {command}   or write `max_length: {facts.longest}`."
            )

    def _answer_part(self, documents: Sequence[Document]) -> KeptLogprobs:
        known, k = self.known, min(self.keep.k, self.vocab)
        prompts = [each.ids.tolist() for each in (known.probe, *documents)]
        first, *scored = self.server.score(known.facts, prompts, k, NEUTRAL)
        try:
            known.check_same_model(first)
            pairs = zip(scored, documents, strict=True)
            kept = concatenated([kept_of_prompt(prompt, d, self.keep, self.vocab) for prompt, d in pairs], k)
            targets = torch.from_numpy(np.concatenate([document.targets for document in documents]))
            check_kept_answer(kept, targets, self.keep, self.vocab)
        except ValueError as error:
            raise self.server.nonsense(str(error), known.facts, k) from error
        return kept


def open_engine(address: str, keep: Keep, tokenizer: PreTrainedTokenizerBase, *, patience: float) -> EngineTeacher:
    """Open an inference engine's teacher, after a handshake that finds what would spoil its answers.

    Args:
        address: as in `vllm+http://127.0.0.1:8000`, or `…:8000#name` for one of several models. The key for it, where
            it wants one, is in QTARGET_TEACHER_TOKEN.
        tokenizer: the student's.
        patience: seconds that the server may be away during the training; on opening it is waited for a minute at most.

    Raises:
        TeacherUnavailableError: nothing answers there.
        ValueError: what was found, with the line that starts a server which will do.
    """
    kind = str(engine_of(address))
    plain, _, wanted = without_engine(address).partition("#")
    url = without_version(checked_url(plain, f"`teacher: {kind}+{{}}`", TOKEN_VARIABLE))
    dialect = DIALECTS[kind]
    vocab = number_of_tokens(tokenizer.get_vocab())
    if keep.how == "sampled":
        raise ValueError(
            f"{dialect.name} gives a teacher's likeliest tokens, and `cache_sampled: true` keeps draws; remove it."
        )
    if keep.temperature != 1 and 0 < keep.k < vocab:
        raise ValueError(
            f"The method needs its teacher at temperature {keep.temperature:g}, and {dialect.name} gives {keep.k} "
            "tokens at temperature 1, of which the mass of the rest is not known at another; write "
            f"`teacher_top_k: {vocab}` (every token), or take `teacher: path/or/hub-name`, or `qtarget teacher serve`."
        )
    opening = EngineServer(url, dialect, min(patience, OPENING_S))
    known = shake_hands(opening, keep.k, tokenizer, wanted)
    return EngineTeacher(EngineServer(url, dialect, patience), keep, known)
