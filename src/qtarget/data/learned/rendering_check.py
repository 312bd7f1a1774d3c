"""Conversations rendered one by one, to find the row that a chat template refuses."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from qtarget.data.bad_rows.faults import RowFault, spelled_out


@dataclass(frozen=True)
class RenderingCheck:
    """Renders a row as training does.

    Attributes:
        chat_template: in the place of the tokenizer's own, or None.
    """

    tokenizer: PreTrainedTokenizerBase
    chat_template: str | None

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Nothing: rows that are rendered are taken as they are.

        Raises:
            RowFault: the template refuses the conversation.
        """
        field = "messages" if "messages" in row else "completion"
        if not isinstance(row.get(field), list):
            return {}
        try:
            if field == "completion":
                self._render(row, row["prompt"], add_generation_prompt=True)
                self._render(row, [*row["prompt"], *row["completion"]])
            else:
                self._render(row, row["messages"])
        except Exception as error:  # a template is a program of somebody else's, which may raise anything
            raise RowFault(
                "refused by the chat template",
                field,
                f"is refused by the chat template ({spelled_out(str(error)) or type(error).__name__})",
                f"Its roles are {', '.join(_roles(row))}: give the rows turns that the template takes.",
            ) from error
        return {}

    def _render(self, row: Mapping[str, Any], turns: list[Any], **options: Any) -> None:
        tools = row.get("tools")
        self.tokenizer.apply_chat_template(
            turns,
            tokenize=False,
            chat_template=self.chat_template,
            tools=json.loads(tools) if isinstance(tools, str) else tools,
            **{**(row.get("chat_template_kwargs") or {}), **options},
        )


def _roles(row: Mapping[str, Any]) -> list[str]:
    turns = row["messages"] if "messages" in row else [*row["prompt"], *row["completion"]]
    return list(dict.fromkeys(spelled_out(str(turn["role"])) for turn in turns))
