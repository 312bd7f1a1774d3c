"""A conversation's text, as the chat template of a tokenizer writes it."""

import json
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from qtarget.console import spelled_out
from qtarget.data.asker import Asker
from qtarget.data.bad_rows.faults import RowFault
from qtarget.data.chat.conversation import Conversation
from qtarget.models.template_errors import is_no_template, place_in_template, words_of_template

Stretch = tuple[int, int]
"""Characters `start` up to, but not including, `end` of a rendered conversation."""
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
        with self._refusals(talk), rendering_lock():
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

    def marked_text(self, talk: Conversation) -> tuple[str, list[Stretch]]:
        """The rendered conversation, and the stretches between its template's generation marks; those that touch are
        joined."""
        with self._refusals(talk), rendering_lock():
            rendered: Any = render_jinja_template(
                conversations=[talk.messages],
                tools=talk.tools,
                chat_template=self._source(talk),
                return_assistant_tokens_mask=True,
                **{**self.tokenizer.special_tokens_map, **talk.template_kwargs},
            )
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

    @contextmanager
    def _refusals(self, talk: Conversation) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a template is a program of somebody else's, which may raise anything
            if is_no_template(error):
                raise
            raise self._refused(talk, error) from error

    def _refused(self, talk: Conversation, error: Exception) -> RowFault:
        return RowFault(
            "conversation that the chat template refuses",
            "messages" if not talk.first else "completion" if len(talk.messages) > talk.first else "prompt",
            f"cannot be written by the chat template{place_in_template(error)} (roles: {talk.roles}): "
            f"{spelled_out(words_of_template(error))}",
            f"Give messages that it takes, or another template: {self.other_template()}.",
        )


def shared_start(text: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    if other.startswith(text):
        return len(text)
    return next((at for at, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), len(other))


def _joined(stretches: Sequence[Stretch]) -> list[Stretch]:
    joined: list[Stretch] = []
    for start, end in stretches:
        if joined and joined[-1][1] >= start:
            joined[-1] = (joined[-1][0], end)
        elif end > start:
            joined.append((start, end))
    return joined
