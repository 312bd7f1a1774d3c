"""Requests to an inference engine's server, repeated while it is away, and what its refusals mean."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from qtarget.servers.http import AddressError
from qtarget.teacher.engines.dialect import Dialect, ScoredPrompt, ServerFacts
from qtarget.teacher.served.transport import RefusalOfTeacher, Speech, TeacherUnavailableError, ask
from qtarget.teacher.served.wire import TOKEN_VARIABLE

IN_FLIGHT = 8
"""Requests under way at once; the server batches them."""
NO_KEY = (401, 403)
"""Statuses of a server that wants a key."""
FACTS_BYTES = 1 << 22
BYTES_OF_TOKEN, BYTES_OF_SCORE = 1 << 10, 256
"""Room in an answer for a token of text, and for each of the tokens that are likeliest there."""


@dataclass(frozen=True)
class EngineServer:
    """A server of one kind at one address.

    Attributes:
        url: without the kind, as in `http://127.0.0.1:8000`.
        patience: seconds that it may be away.
    """

    url: str
    dialect: Dialect
    patience: float

    @property
    def name(self) -> str:
        """As errors call it."""
        return f"teacher at {self.url}"

    def facts(self, wanted: str) -> ServerFacts:
        """What it says about itself; ValueError for a server of another kind."""
        try:
            return self.dialect.facts(self._get, wanted)
        except RefusalOfTeacher as refusal:
            raise (ValueError(_wants_key(refusal)) if refusal.status in NO_KEY else refusal) from refusal
        except (TeacherUnavailableError, AddressError):
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"What answers at {self.url} cannot be asked as {self.dialect.name}: {error}. {self._remedy(64)}"
            ) from error

    def score(
        self, facts: ServerFacts, prompts: Sequence[Sequence[int]], k: int, sampling: Mapping[str, float]
    ) -> list[ScoredPrompt]:
        """What it says about each token of some prompts.

        Raises:
            TeacherUnavailableError: it was away for longer than `patience`.
            ValueError: it refuses, with the line that starts one which does not; or answers in no way that is known.
        """
        question = json.dumps(self.dialect.question(facts, prompts, k, sampling)).encode()
        tokens = sum(map(len, prompts))
        limit = FACTS_BYTES + tokens * (BYTES_OF_TOKEN + (k + 1) * BYTES_OF_SCORE)
        try:
            reply = ask(
                self.url,
                self.dialect.path,
                limit=limit,
                patience=self.patience,
                body=question,
                speech=self._speech(facts),
            )
        except RefusalOfTeacher as refusal:
            raise ValueError(self._explained(refusal, facts, k, max(map(len, prompts)))) from refusal
        try:
            scored = self.dialect.prompts_in(json.loads(reply.body), k)
            if len(scored) != len(prompts):
                raise ValueError(f"it speaks of {len(scored)} prompts where {len(prompts)} were sent")
        except (ValueError, RecursionError) as error:
            why = str(error) if not isinstance(error, json.JSONDecodeError) else f"it is no JSON ({reply.text[:80]})"
            raise self.nonsense(why, facts, k) from error
        return scored

    def nonsense(self, why: str, facts: ServerFacts, k: int) -> ValueError:
        """The error for an answer that cannot be right."""
        return ValueError(
            f"The {self.name} answers what cannot be right: {why}. Nothing was learned from it. "
            f"{self._remedy(k, facts)}"
        )

    def command(self, facts: ServerFacts | None, k: int, longest: int | None = None) -> str:
        """The whole line that starts a server which can be asked for K tokens."""
        return self.dialect.command(facts, urlsplit(self.url).port, k, longest)

    def _remedy(self, k: int, facts: ServerFacts | None = None) -> str:
        return f"Start {self.dialect.name} with: {self.command(facts, k)}"

    def _speech(self, facts: ServerFacts | None = None) -> Speech:
        command = self.command(facts, 64)
        return Speech("application/json", command, f"{self.dialect.name.lower()}+http://host:port", IN_FLIGHT)

    def _get(self, path: str) -> Any:
        try:
            reply = ask(self.url, path, limit=FACTS_BYTES, patience=self.patience, speech=self._speech())
        except RefusalOfTeacher as refusal:
            if refusal.status in (404, 405):
                return None
            raise
        try:
            return json.loads(reply.body)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"its {path} is no JSON ({reply.text[:80]})") from error

    def _explained(self, refusal: RefusalOfTeacher, facts: ServerFacts, k: int, longest: int) -> str:
        if self.dialect.says_too_many(refusal.text):
            return (
                f"{k} tokens are to be kept of each distribution, and the {self.name} gives fewer ({refusal.text}). "
                f"Start it with: {self.command(facts, k)}   or write `teacher_top_k` with what it gives."
            )
        if refusal.status == 404:
            return (
                f"The {self.name} is another than at the start: it has no {facts.model} any more ({refusal.text}). "
                f"{self._remedy(k, facts)}"
            )
        if refusal.status in NO_KEY:
            return _wants_key(refusal)
        if refusal.status != 400:
            return f"{refusal} See its log."
        return f"{refusal} It takes {facts.longest} tokens at once, and the longest of these had {longest}."


def _wants_key(refusal: RefusalOfTeacher) -> str:
    return f"{refusal} Put its key into {TOKEN_VARIABLE}."
