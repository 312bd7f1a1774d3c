"""A row's conversation, and its text as the chat template writes it."""

import json
import os
import re
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from qtarget.data.asker import Asker
from qtarget.data.faults import RowFault
from qtarget.data.turn_training import TRAINED

Message = dict[str, Any]
Stretch = tuple[int, int]
"""Characters `start` up to, but not including, `end` of a rendered conversation."""

ASSISTANT = "assistant"
GENERATION_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")


_held = threading.RLock()


def rendering_lock() -> AbstractContextManager[Any]:
    """Held while a template or a tokenizer works: `datasets` reads the streams of a mixture in threads, and compiled
    templates keep notes on what they are writing."""
    return _held


def _release_in_child() -> None:
    """A process that is forked while a thread holds the lock has not that thread."""
    global _held
    _held = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_in_child)


@dataclass(frozen=True)
class Conversation:
    """One row's messages, and what its template is given besides.

    Attributes:
        messages: each with `role` and `content`; keys without a value are left out.
        first: index of the first message that may be learned: those before it are the prompt.
        tools: descriptions of functions, or None.
        template_kwargs: more variables of the template.
        unlearned: indices of messages that say that they are not learned.
        asked: indices of messages of others than the assistant that say that they are.
    """

    messages: list[Message]
    first: int = 0
    tools: Any = None
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    unlearned: frozenset[int] = frozenset()
    asked: frozenset[int] = frozenset()

    @staticmethod
    def of(row: Mapping[str, Any]) -> "Conversation":
        """From a row with `messages`, or with `prompt` and `completion` as lists of messages."""
        is_completion = row.get("completion") is not None
        prompt = (row.get("prompt") or []) if is_completion else []
        messages = [*prompt, *row["completion"]] if is_completion else row["messages"]
        tools = row.get("tools")
        return Conversation(
            [_without_nothing(message) for message in messages],
            len(prompt),
            (json.loads(tools) if isinstance(tools, str) else tools) or None,
            row.get("chat_template_kwargs") or {},
            frozenset(at for at, message in enumerate(messages) if message.get(TRAINED) == 0),
            frozenset(at for at, message in enumerate(messages) if message.get(TRAINED) == 1),
        )

    @property
    def turns(self) -> list[int]:
        """Indices of the assistant's messages that may be learned."""
        return [at for at in range(self.first, len(self.messages)) if self.messages[at].get("role") == ASSISTANT]

    def until(self, end: int) -> "Conversation":
        """The messages before the one at index `end`."""
        return replace(self, messages=self.messages[:end])

    def place(self, at: int) -> str:
        """A message's column and its number in it, as "messages[2]"."""
        if not self.first:
            return f"messages[{at}]"
        return f"prompt[{at}]" if at < self.first else f"completion[{at - self.first}]"

    @property
    def roles(self) -> str:
        """Who speaks, in order."""
        return ", ".join(str(message.get("role")) for message in self.messages)


def _without_nothing(message: Message) -> Message:
    """A message without keys that hold nothing: columns of files and data sets fill in nulls where a row has no key.
    What it says about training is not shown to the template either."""
    return {
        key: value
        for key, value in message.items()
        if value is not None and key != TRAINED and (key, value) != ("tool_calls", [])
    }


@dataclass(frozen=True)
class ChatTemplate:
    """A tokenizer's chat template, or another in its place.

    Args:
        template: in the place of the tokenizer's own, or None.
        asker: in whose language errors say what to write.
    """

    tokenizer: PreTrainedTokenizerBase
    template: str | None = None
    asker: Asker = Asker.PYTHON
    _headers: dict[str, str] = field(default_factory=dict)

    def text(self, talk: Conversation, *, asks: bool = False) -> str:
        """The rendered conversation; with `asks` it ends with the header under which the assistant's answer is drawn.

        Raises:
            RowFault: the template refuses the conversation.
        """
        try:
            with rendering_lock():
                return str(
                    self.tokenizer.apply_chat_template(
                        talk.messages,
                        tools=talk.tools,
                        chat_template=self.template,
                        add_generation_prompt=asks,
                        tokenize=False,
                        **talk.template_kwargs,
                    )
                )
        except Exception as error:  # a template is a program of somebody else's, which may raise anything
            if _is_no_template(error):
                raise
            raise self._refused(talk, error) from error

    def marked_text(self, talk: Conversation) -> tuple[str, list[Stretch]]:
        """The rendered conversation, and the stretches between its template's generation marks; those that touch are
        joined."""
        try:
            with rendering_lock():
                rendered: Any = render_jinja_template(
                    conversations=[talk.messages],
                    tools=talk.tools,
                    chat_template=self._source(talk),
                    return_assistant_tokens_mask=True,
                    **{**self.tokenizer.special_tokens_map, **talk.template_kwargs},
                )
        except Exception as error:  # a template is a program of somebody else's, which may raise anything
            if _is_no_template(error):
                raise
            raise self._refused(talk, error) from error
        (text,), (stretches,) = rendered
        return text, _joined(stretches)

    def has_marks(self, talk: Conversation) -> bool:
        """Whether the template says by `{% generation %}` what the assistant generates."""
        return GENERATION_MARK.search(self._source(talk)) is not None

    def header(self, talk: Conversation) -> str:
        """What stands before an answer that is drawn, as `<|im_start|>assistant⏎`; "" where the template writes
        nothing there, or refuses a lone question."""
        key = json.dumps(talk.template_kwargs, sort_keys=True, default=str)
        if key not in self._headers:
            question = Conversation([{"role": "user", "content": "?"}], template_kwargs=talk.template_kwargs)
            try:
                asking, told = self.text(question, asks=True), self.text(question)
                self._headers[key] = asking[shared_start(asking, told) :]
            except RowFault:
                self._headers[key] = ""
        return self._headers[key]

    @cached_property
    def special_token(self) -> re.Pattern[str]:
        """Any of the tokenizer's special tokens."""
        tokens = {token for token in self.tokenizer.all_special_tokens if token}
        added = self.tokenizer.added_tokens_decoder.values()
        tokens |= {token.content for token in added if token.special}
        return re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) or r"(?!)")

    def other_template(self) -> str:
        """The line that gives another template."""
        return self.asker.line("chat_template_path", "template.jinja")

    def rewritten(self, talk: Conversation, at: int) -> RowFault:
        """The fault of a turn that stands otherwise in the whole text than where it is drawn."""
        is_last = at == talk.turns[-1]
        line = self.asker.line("learn", "all" if is_last else "last")
        return RowFault(
            "turn that the chat template rewrites",
            talk.place(at),
            "is written otherwise within the conversation than where it is answered (some templates drop earlier "
            "reasoning), so what would be learned is not what the model says",
            f"Write {line}, which learns {'every token' if is_last else 'the last turn alone'}, or give a template "
            f"that keeps turns as they are: {self.other_template()}.",
        )

    def _source(self, talk: Conversation) -> str:
        return str(self.tokenizer.get_chat_template(self.template, talk.tools))

    def _refused(self, talk: Conversation, error: Exception) -> RowFault:
        return RowFault(
            "conversation that the chat template refuses",
            "completion" if talk.first else "messages",
            f"cannot be written by the chat template{_template_line(error)} (roles: {talk.roles}): {_in_words(error)}",
            f"Give messages that it takes, or another template: {self.other_template()}.",
        )


def shared_start(text: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    if other.startswith(text):
        return len(text)
    return next((at for at, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), len(other))


def _is_no_template(error: Exception) -> bool:
    """The template cannot be read at all (jinja2's error), so no row is at fault."""
    return any(kind.__name__ == "TemplateSyntaxError" for kind in type(error).__mro__)


def _template_line(error: BaseException) -> str:
    """Where in a chat template an error arose: ", line 2"; "" where that is not known."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename in ("<template>", "<unknown>")]
    line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
    return "" if line is None else f", line {line}"


def _in_words(error: Exception) -> str:
    """The template's own words; of an error of Python's also its kind."""
    if type(error).__module__.startswith("jinja2"):
        return str(error) or type(error).__name__
    return f"{type(error).__name__}: {error}"


def _joined(stretches: Sequence[Stretch]) -> list[Stretch]:
    joined: list[Stretch] = []
    for start, end in stretches:
        if joined and joined[-1][1] >= start:
            joined[-1] = (joined[-1][0], end)
        elif end > start:
            joined.append((start, end))
    return joined
