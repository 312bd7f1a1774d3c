"""A row's conversation: its messages, and what its template is given besides."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from qtarget.console import spelled_out
from qtarget.data.chat.turn_training import TRAINED

Message = dict[str, Any]

ASSISTANT = "assistant"


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
        """Who speaks, in order, on one line."""
        return spelled_out(", ".join(str(message.get("role")) for message in self.messages))


def _without_nothing(message: Message) -> Message:
    """A message without keys that hold nothing: columns of files and data sets fill in nulls where a row has no key.
    What it says about training is not shown to the template either."""
    return {
        key: value
        for key, value in message.items()
        if value is not None and key != TRAINED and (key, value) != ("tool_calls", [])
    }
