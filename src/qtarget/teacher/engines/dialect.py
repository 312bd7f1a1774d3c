"""What an inference engine is asked and what it answers, in words that hold for all of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

TokenScores = Mapping[int, float]
"""Log-probabilities, in nats, of some tokens at one place: the K likeliest, and the one that stands there."""
NEUTRAL = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
"""What an engine is asked to sample by. Said in full: what a request leaves open it takes from the model's folder."""
DISTORTED = {"temperature": 0.5, "top_p": 0.5, "top_k": 3, "min_p": 0.0, "repetition_penalty": 1.5}
"""Another way to sample, which must not change what an engine says of a prompt."""
_LARGEST, _SHOWN = 1 << 31, 40
"""Ids are below, and signs of a wrong value that an error repeats."""


class ServerFacts(NamedTuple):
    """What a server says about itself.

    Attributes:
        model: the name by which it is asked for its model.
        source: path or hub name of that model, or of the base of an adapter, as the server sees it; empty where it does
            not say.
        longest: tokens of a document, at most.
        version: of the engine; empty where it does not say.
        adapter: path or hub name of the LoRA adapter on that base; empty for a whole model.
    """

    model: str
    source: str
    longest: int
    version: str
    adapter: str = ""

    @property
    def weights(self) -> str:
        """The model by path, hub name or name."""
        return self.adapter or self.source or self.model


class ScoredPrompt(NamedTuple):
    """What an engine says about one prompt.

    Attributes:
        ids: the tokens that it has read; None where it does not say.
        scores: at each of them; None where nothing is said, as of the first, which follows nothing.
        texts: what it takes some tokens for.
    """

    ids: Sequence[int] | None
    scores: Sequence[TokenScores | None]
    texts: Mapping[int, str]


class Dialect(Protocol):
    """How one kind of engine is talked to. Answers are read strictly: ValueError for what is none."""

    @property
    def name(self) -> str:
        """As its makers write it."""
        ...

    @property
    def path(self) -> str:
        """Where prompts are posted to."""
        ...

    def facts(self, get: Callable[[str], Any], wanted: str) -> ServerFacts:
        """What the server says about itself.

        Args:
            get: the JSON at a path; None where there is no such path.
            wanted: the model's name there; empty for the only one.
        """
        ...

    def question(
        self, facts: ServerFacts, prompts: Sequence[Sequence[int]], k: int, sampling: Mapping[str, float]
    ) -> dict[str, Any]:
        """The body of a request for the K likeliest tokens at each place of some prompts."""
        ...

    def prompts_in(self, answer: Any, k: int) -> list[ScoredPrompt]:
        """What an answer says, prompt after prompt."""
        ...

    def command(self, facts: ServerFacts | None, port: int | None, k: int, longest: int | None) -> str:
        """The whole line that starts a server which can be asked for K tokens.

        Args:
            facts: of the server that is there; None where nothing is known.
            longest: tokens of a document, at most, where it must be said.
        """
        ...

    def says_too_many(self, refusal: str) -> bool:
        """Whether a refusal is that of a server which gives fewer likeliest tokens."""
        ...


def number_in(value: Any) -> float:
    """A log-probability in an answer; ValueError for what is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or (isinstance(value, int) and abs(value) > _LARGEST):
        raise ValueError(f"{repr(value)[:_SHOWN]} stands where a log-probability should")
    return float(value)


def token_in(value: Any) -> int:
    """A token's id in an answer, where the name of a JSON value may be one; ValueError for what is none."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= len(str(_LARGEST)):
        value = int(value)
    if type(value) is not int or not 0 <= value < _LARGEST:
        raise ValueError(f"{repr(value)[:_SHOWN]} stands where a token's id should")
    return value


def text_in(value: Any) -> str:
    """A token's text in an answer, empty where it is not said; ValueError for what is none."""
    if not isinstance(value, str | None):
        raise ValueError(f"{repr(value)[:_SHOWN]} stands where a token's text should")
    return value or ""
