"""Whether a rendered conversation shows every message: a template may leave messages out, or rewrite them."""

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

from qtarget.data.bad_rows.faults import RowFault
from qtarget.data.chat.conversation import ASSISTANT, ChatTemplate, Conversation, Message

ANYWHERE = ("system", "developer")
"""Roles whose words some templates write elsewhere than where the message stands."""
REASONING = ("reasoning_content", "thinking", "reasoning")
"""Keys of a message's reasoning, beside its `content`."""
THINK = re.compile(r"</?think>")
MARKER = "qxMessage{}xq"


class MessageSearch:
    """Looks for the messages of conversations that one template renders.

    Templates are asked once for each order of roles: a second rendering, with a marker in the place of each content,
    tells a message that is left out even where its words stand elsewhere in the text.
    """

    def __init__(self, template: ChatTemplate) -> None:
        self.template = template
        self._left_out: dict[str, int | None] = {}

    def check(self, talk: Conversation, text: str, learned: Collection[int]) -> None:
        """Refuse a conversation whose rendering `text` does not show each message, in order.

        Args:
            learned: indices of the messages that are learned. Elsewhere a template may drop what the assistant thought
                before it answered, since it drops it where the answer is drawn.

        Raises:
            RowFault: naming the message.
        """
        lost = self._message_left_out(talk)
        if lost is not None:
            raise self._lost(talk, lost, "is left out by the chat template")
        cursor = 0
        for at, message in enumerate(talk.messages):
            anywhere = message.get("role") in ANYWHERE
            end = _end(message, text, 0 if anywhere else cursor, whole=at in learned)
            if end is None and _end(message, text, cursor, whole=False) is not None:
                raise self.template.rewritten(talk, at)
            if end is None:
                raise self._lost(talk, at, "is not in the text that the chat template makes of it, word for word")
            cursor = cursor if anywhere else end

    def _message_left_out(self, talk: Conversation) -> int | None:
        """The first message that the template writes nothing of; None where it writes all that have words."""
        shape = [(m.get("role"), sorted(m), isinstance(m.get("content"), str)) for m in talk.messages]
        key = json.dumps([shape, bool(talk.tools), talk.template_kwargs], default=str)
        if key not in self._left_out:
            self._left_out[key] = self._unmarked(talk)
        return self._left_out[key]

    def _unmarked(self, talk: Conversation) -> int | None:
        marked = [
            {**message, "content": MARKER.format(at)} if _words(message.get("content")) else message
            for at, message in enumerate(talk.messages)
        ]
        try:
            text = self.template.text(replace(talk, messages=marked))
        except RowFault:  # it looks into contents, so markers tell nothing
            return None
        names = [(at, MARKER.format(at).lower()) for at, message in enumerate(marked) if _words(message.get("content"))]
        return next((at for at, name in names if name not in text.lower()), None)

    def _lost(self, talk: Conversation, at: int, why: str) -> RowFault:
        role = talk.messages[at].get("role")
        return RowFault(
            f"message of {role!r} lost in rendering",
            f"{talk.place(at)}.content",
            f"(role {role!r}) {why}",
            f"Give it a role and words that the template shows, or another template: {self.template.other_template()}.",
        )


def end_of_words(message: Message, text: str, start: int) -> int:
    """Where a message's words end in a text that shows them from `start` on."""
    end = _end(message, text, start, whole=True)
    return start if end is None else end


def _end(message: Message, text: str, cursor: int, whole: bool) -> int | None:
    """Where the last of a message's words ends; None where one is missing."""
    content = _words(message.get("content"))
    may_forget = message.get("role") == ASSISTANT and not whole
    thoughts = [] if may_forget else [str(message[key]) for key in REASONING if message.get(key)][:1]
    end = _end_of_all([*thoughts, content], text, cursor)
    if end is None:
        kept = [content.split("</think>")[-1]] if may_forget else [*thoughts, *THINK.split(content)]
        end = _end_of_all(kept, text, cursor)
    if end is None:
        return None
    called = [_found(text, words, cursor) for words in _calls(message.get("tool_calls"))]
    return None if None in called else max([end, *called])  # pyright: ignore[reportArgumentType]


def _end_of_all(pieces: list[str], text: str, cursor: int) -> int | None:
    """Where the last of some texts ends that follow one another."""
    for piece in pieces:
        end = _found(text, piece, cursor)
        if end is None:
            return None
        cursor = end
    return cursor


def _found(text: str, words: str, cursor: int) -> int | None:
    """Where `words` end: as they are, without blanks around them, or as JSON writes them."""
    bare = words.strip()
    if not bare:
        return cursor
    for form in (words, bare, *(json.dumps(words, ensure_ascii=ascii)[1:-1] for ascii in (False, True))):
        start = text.find(form, cursor)
        if start >= 0:
            return start + len(form)
    return None


def _words(content: Any) -> str:
    """A content's text: itself, or its text parts one after another."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") if isinstance(part, dict) else str(part) for part in content)
    return str(content or "")


def _calls(calls: Any) -> Iterator[str]:
    """Names of the functions that a message calls, with the names and texts of their arguments. Numbers and truth
    values are left out: templates write them in several ways (`true`, `True`)."""
    for call in calls or ():
        function = call.get("function") or call
        yield str(function.get("name") or "")
        yield from _texts(function.get("arguments"))


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for name, each in value.items():
                if each is not None:
                    yield str(name)
                    yield from _texts(each)
        case list():
            for each in value:
                yield from _texts(each)
