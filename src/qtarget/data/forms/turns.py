"""Conversations, read turn by turn: roles known, contents text, tool calls whole."""

import json
from collections.abc import Mapping
from typing import Any

from qtarget.data.bad_rows.faults import RowFault, kind_of, shown, text_of
from qtarget.data.chat.chat_style import ChatStyle
from qtarget.data.chat.turn_training import TRAINED, TRAINING_KEYS, trained

ROLES = {
    **{name: name for name in ("system", "developer", "user", "assistant", "tool")},
    **{name: "user" for name in ("human",)},
    **{name: "assistant" for name in ("gpt", "chatgpt", "bing", "bard")},
    **{name: "tool" for name in ("observation", "tool_response", "function_response")},
}
"""Roles as rows write them, and what chat templates call the same."""
CALLERS = ("function_call", "tool_call")
"""Roles of ShareGPT rows whose value is a tool call, as JSON."""
NO_ARGUMENTS = (None, {}, "", "{}")
NOT_ANSWERING = ("system", "developer", "user", "tool")
TEXT_PARTS = ("text", "input_text", "output_text")
"""Types of a content's parts that are text."""


def read_turns(value: Any, field: str, style: ChatStyle) -> list[dict[str, Any]]:
    """The turns of a conversation as chat templates take them.

    `from` and `value` become `role` and `content`, text parts are joined, tool calls get their arguments as the
    template writes them, and keys without a value, which arrow adds, are left out.

    Args:
        value: a list of turns, or the same as JSON text.  field: its column, for faults.

    Raises:
        RowFault: naming the turn.
    """
    turns = _parsed(value)
    if not isinstance(turns, list):
        raise RowFault(
            "null" if turns is None else "no conversation",
            field,
            f"holds {kind_of(turns)}, and a list of messages is expected",
        )
    if not turns:
        raise RowFault("empty conversation", field, "is an empty list, and a conversation has at least one turn")
    return [_read_turn(turn, f"{field}[{index}]", style) for index, turn in enumerate(turns)]


def check_answer(turns: list[dict[str, Any]], field: str) -> None:
    """Refuse a conversation in which nobody answers.

    Raises:
        RowFault: every turn is the system's, the user's or a tool's.
    """
    roles = list(dict.fromkeys(turn["role"] for turn in turns))
    if all(role in NOT_ANSWERING for role in roles):
        raise RowFault(
            "no turn of the assistant", field, f"has no turn of the assistant (its roles: {', '.join(roles)})"
        )


def without_nulls(value: Any) -> Any:
    """A value without the keys that hold null, at any depth: arrow gives every object the keys of all others."""
    if isinstance(value, Mapping):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


def _parsed(value: Any) -> Any:
    """JSON text that holds a list, parsed: what a table of text columns has in the place of a conversation."""
    if not (isinstance(value, str) and value.lstrip().startswith("[")):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _read_turn(turn: Any, field: str, style: ChatStyle) -> dict[str, Any]:
    if not isinstance(turn, Mapping):
        raise RowFault("no message", field, f"is {kind_of(turn)}, and a message with a role and content is expected")
    is_own = turn.get("role") is not None
    said, content = (turn.get("role" if is_own else "from"), turn.get("content" if is_own else "value"))
    extras = {
        key: value for key, value in turn.items() if key not in (*_TURN_KEYS, *TRAINING_KEYS) and value is not None
    }
    is_trained = trained(turn, field)
    if extras.get("tool_calls") == []:  # a template may write the empty list
        del extras["tool_calls"]
    if said in CALLERS and not is_own:
        calls = _calls_of_text(content, f"{field}.value", style)
        return {"role": "assistant", "content": None, "tool_calls": calls, **({TRAINED: 0} if is_trained == 0 else {})}
    role = _role(said, f"{field}.{'role' if is_own else 'from'}", style, is_own)
    if calls := extras.get("tool_calls"):
        extras["tool_calls"] = [_call(call, f"{field}.tool_calls", style) for call in calls]
    if is_trained == 0 or (is_trained == 1 and role in NOT_ANSWERING):  # else it is what is done anyhow
        extras[TRAINED] = is_trained
    place = f"{field}.{'content' if is_own else 'value'}"
    return {"role": role, "content": _content(content, place, role, extras), **extras}


_TURN_KEYS = ("role", "content", "from", "value")


def _role(said: Any, field: str, style: ChatStyle, is_own: bool) -> str:
    if not isinstance(said, str) or not said:
        raise RowFault("no role", field, f"is {kind_of(said)}, and a role such as user or assistant is expected")
    known = ROLES.get(said) or ROLES.get(said.casefold())
    if is_own and said in NOT_ANSWERING:
        return said
    if known is None and is_own and style.shows(said):
        return said
    if known is None:
        why = "and the chat template does not show its turns" if is_own else "and ShareGPT rows have no such role"
        roles = "system, user, assistant and tool" if is_own else "human, gpt, system, function_call and observation"
        raise RowFault(
            f"unknown role {shown(said)}", field, f"is {shown(said)}, {why}", f"Roles are {roles}: rename it."
        )
    return known


def _content(content: Any, field: str, role: str, extras: Mapping[str, Any]) -> str | None:
    """The content as text; null stays null for an assistant that calls a tool."""
    calls = role == "assistant" and (extras.get("tool_calls") or extras.get("function_call"))
    if content is None and calls:
        return None
    is_parts = isinstance(content, list)
    text = "".join(_part(part, f"{field}[{i}]") for i, part in enumerate(content)) if is_parts else content
    thinks = bool(extras.get("reasoning_content") or extras.get("thinking"))
    return text_of(text, field, may_be_blank=bool(calls) or thinks or role not in ("user", "assistant"))


def _part(part: Any, field: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type", "text") if isinstance(part, Mapping) else None
    if kind not in TEXT_PARTS:
        what = f"of type {shown(kind)}" if kind is not None else kind_of(part)
        raise RowFault(
            "content that is not text", field, f"is a part {what}, and the targets here are over text", "Remove it."
        )
    if trained(part, field) == 0:
        raise RowFault(
            "part of a content that is not trained",
            field,
            "is not to be trained, and a message is learned whole or not at all",
            "Write a column `weight_spans`: for each message a list of [start, end, weight], in characters.",
        )
    return text_of(part.get("text"), f"{field}.text", may_be_blank=True)


def _calls_of_text(value: Any, field: str, style: ChatStyle) -> list[dict[str, Any]]:
    """The calls of a `function_call` turn: a JSON object with name and arguments, or a list of them."""
    try:
        calls = json.loads(text_of(value, field))
    except ValueError as error:
        raise RowFault(
            "broken tool call", field, f"is not JSON ({shown(value)}), and a call with name and arguments is expected"
        ) from error
    calls = calls if isinstance(calls, list) else [calls]
    return [_call({"type": "function", "function": call}, field, style) for call in calls]


def _call(call: Any, field: str, style: ChatStyle) -> dict[str, Any]:
    """A tool call without arrow's nulls, its arguments as the template writes them."""
    call = without_nulls(call)
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise RowFault("broken tool call", field, f"holds {shown(call)}, and a call has a name and arguments")
    _check_shown(function, field, style)
    named = {**function, "arguments": _arguments(function.get("arguments"), field, style)}
    return {**call, "function": named} if "function" in call else named


def _check_shown(function: Mapping[str, Any], field: str, style: ChatStyle) -> None:
    """Refuse a call that the chat template would leave out, or write without its arguments."""
    if style.arguments == "hidden":
        raise RowFault(
            "tool calls hidden by the chat template",
            field,
            "holds a tool call, and the chat template does not show tool calls",
            "Use a template that does.",
        )
    if style.arguments == "name" and function.get("arguments") not in NO_ARGUMENTS:
        raise RowFault(
            "arguments of tool calls hidden by the chat template",
            field,
            "holds a tool call with arguments, and the chat template shows the name alone",
            "Use a template that shows arguments.",
        )


def _arguments(given: Any, field: str, style: ChatStyle) -> Any:
    """A call's arguments: JSON text is parsed where the template would write it as a quoted text, and an object made
    text where it takes nothing else."""
    if isinstance(given, str) and style.arguments == "object":
        try:
            return json.loads(given) if given.strip() else {}
        except ValueError as error:
            raise RowFault(
                "broken tool call", f"{field}.arguments", f"are no JSON ({shown(given)})", "Write an object."
            ) from error
    given = {} if given is None else given
    if isinstance(given, Mapping) and style.arguments == "text":
        return json.dumps(given, ensure_ascii=False)
    return given
