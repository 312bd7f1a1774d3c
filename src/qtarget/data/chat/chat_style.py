"""What a tokenizer's chat template does with unusual turns, found by asking it."""

from dataclasses import dataclass
from typing import Any, Literal

ARGUMENTS = {"qtargetprobe": 1}


@dataclass(frozen=True)
class ChatStyle:
    """What a chat template does with the turns it is given.

    Attributes:
        template: its source; None where the tokenizer has none.
        shows_any_role: whether a turn of a role that it does not name is shown, under that name.
        arguments: how it writes a tool call's arguments: given as an object, as JSON text, either, or not at
            all: the call is hidden, or its name alone is shown.
    """

    template: str | None
    shows_any_role: bool = True
    arguments: Literal["object", "text", "either", "name", "hidden"] = "either"

    def shows(self, role: str) -> bool:
        """Whether a turn of this role appears."""
        source = self.template or ""
        return self.shows_any_role or f"'{role}'" in source or f'"{role}"' in source


def chat_style(tokenizer: Any, template: str | None = None) -> ChatStyle:
    """How the chat template of a tokenizer treats roles that it does not name, and tool calls.

    Args:
        template: the one in the place of the tokenizer's own.
    """
    own = getattr(tokenizer, "chat_template", None)
    template = template or (own.get("default") if isinstance(own, dict) else own)
    if template is None:
        return ChatStyle(None)

    def rendered(*turns: dict[str, Any]) -> str:
        try:
            return str(tokenizer.apply_chat_template(list(turns), chat_template=template, tokenize=False))
        except Exception:  # a template is a program of somebody else's: whatever it raises, it does not show the turn
            return ""

    odd = rendered({"role": "user", "content": "q"}, {"role": "qtargetrole", "content": "qtargetsaid"})
    return ChatStyle(template, "qtargetrole" in odd and "qtargetsaid" in odd, _arguments(rendered))


def _arguments(rendered: Any) -> Any:
    """Which spelling of a tool call's arguments appears as an object in the rendering; else whether its name does."""
    text = '{"qtargetprobe": 1}'
    takes_text = text in (shown_text := _call(rendered, text))
    takes_object = '"qtargetprobe": 1' in (shown := _call(rendered, ARGUMENTS)) or '"qtargetprobe":1' in shown
    neither = "name" if "qtargetcall" in shown_text + shown else "hidden"
    names = {(True, True): "either", (True, False): "text", (False, True): "object", (False, False): neither}
    return names[takes_text, takes_object]


def _call(rendered: Any, arguments: Any) -> str:
    function = {"name": "qtargetcall", "arguments": arguments}
    turn = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"type": "function", "id": "a1b2c3d4e", "function": function}],
    }
    user = {"role": "user", "content": "q"}
    return rendered(user, turn) or rendered(user, {**turn, "content": ""})
