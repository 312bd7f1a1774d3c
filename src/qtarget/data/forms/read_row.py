"""A row of any form, checked and turned into the columns that are tokenised."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from qtarget.data.bad_rows.faults import RowFault, kind_of, shown, text_of
from qtarget.data.chat.chat_style import ChatStyle
from qtarget.data.chat.turn_training import TRAINED
from qtarget.data.forms.row_form import ALWAYS_READ, RowForm
from qtarget.data.forms.teacher_prompt_column import Asked, teacher_asked, with_last_question
from qtarget.data.forms.turns import check_answer, read_turns, without_nulls
from qtarget.data.teacher_prompts.teacher_ids import TEACHER_PARTS, TEACHER_PROMPT

INPUT_GIVEN = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request."
)
INPUT_ABSENT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
)
"""How Alpaca's text begins, where rows have no system prompt of their own."""


@dataclass(frozen=True)
class FormReader:
    """Reads rows of one form.

    Attributes:
        form: of the rows.  text_field: the column that plain text is put in.
        style: of the chat template; without one, Alpaca rows and questions become plain text.
        takes_last_answer: whether of a conversation beside a text prompt the assistant's last turn is the completion.
    """

    form: RowForm
    style: ChatStyle
    text_field: str = "text"
    takes_last_answer: bool = False

    @property
    def parts(self) -> Mapping[str, str]:
        """The columns that are read, by part."""
        return self.form.reads

    def source(self, name: str) -> str:
        """The column of the rows that a column of the reading is, where it is the same column."""
        return self.parts.get("text" if name == self.text_field else name, name)

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The columns of a row that are tokenised: `prompt` and `completion` (both text or both messages), `messages`
        or the text, and of `tools`, `chat_template_kwargs` and `teacher_prompt` what the row has.

        Raises:
            RowFault: the row cannot be trained on.
        """
        read = self._form(row)
        return {**read, **self._extras(row, read)}

    def _form(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The columns of the form itself."""
        return {
            "prompt-completion": self._prompt_completion,
            "messages": self._messages,
            "ShareGPT": self._messages,
            "Alpaca": self._alpaca,
            "question-answer": self._question,
            "text": self._text,
        }[self.form.name](row)

    def _prompt_completion(self, row: Mapping[str, Any]) -> dict[str, Any]:
        asked, answered = self.parts["prompt"], self.parts["completion"]
        prompt, completion = row.get(asked), row.get(answered)
        if self.takes_last_answer and isinstance(prompt, str) and not isinstance(completion, str):
            completion = self._last_answer(completion, answered)
        if {type(prompt), type(completion)} == {str, list}:
            raise _two_kinds(prompt, asked, answered)
        if not isinstance(prompt, list):
            return {"prompt": text_of(prompt, asked), "completion": text_of(completion, answered)}
        turns = read_turns(completion, answered, self.style)
        check_answer(turns, answered)
        return {"prompt": read_turns(prompt, asked, self.style), "completion": turns}

    def _last_answer(self, completion: Any, column: str) -> str:
        turns = read_turns(completion, column, self.style)
        check_answer(turns, column)
        last = next(turn for turn in reversed(turns) if turn["role"] == "assistant")
        if last.get(TRAINED) == 0:
            raise RowFault("answer that is not to be learned", column, "ends with an answer that is not to be learned")
        return last["content"]

    def _messages(self, row: Mapping[str, Any]) -> dict[str, Any]:
        column = self.parts["messages"]
        turns = read_turns(row.get(column), column, self.style)
        check_answer(turns, column)
        return {"messages": [*self._system(row, turns[0]), *turns]}

    def _question(self, row: Mapping[str, Any]) -> dict[str, Any]:
        question, answer = (text_of(row.get(self.parts[part]), self.parts[part]) for part in ("question", "answer"))
        if self.style.template is not None:
            return {"prompt": [*self._system(row), _turn("user", question)], "completion": [_turn("assistant", answer)]}
        lines = [*(turn["content"] for turn in self._system(row)), question.rstrip("\n")]
        return {"prompt": "\n\n".join(lines) + "\n", "completion": answer}

    def _alpaca(self, row: Mapping[str, Any]) -> dict[str, Any]:
        instruction, output = (
            text_of(row.get(self.parts[part]), self.parts[part]) for part in ("instruction", "output")
        )
        context, system, rounds = self._optional(row, "input"), self._system(row), self._history(row)
        if self.style.template is not None:
            earlier = [
                _turn(role, said) for pair in rounds for role, said in zip(("user", "assistant"), pair, strict=True)
            ]
            asked = _turn("user", f"{instruction}\n\n{context}" if context else instruction)
            return {"prompt": [*system, *earlier, asked], "completion": [_turn("assistant", output)]}
        begin = system[0]["content"] if system else INPUT_GIVEN if context else INPUT_ABSENT
        blocks = [f"### Instruction:\n{asked}\n\n### Response:\n{answer}" for asked, answer in rounds]
        last = f"### Instruction:\n{instruction}" + (f"\n\n### Input:\n{context}" if context else "")
        return {"prompt": "\n\n".join([begin, *blocks, last, "### Response:\n"]), "completion": output}

    def _text(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {self.text_field: text_of(row.get(self.parts["text"]), self.parts["text"])}

    def _system(self, row: Mapping[str, Any], first: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """The system turn of a row's own column, in the place before its first turn."""
        said = self._optional(row, "system")
        if not said or (first is not None and first["content"] == said):
            return []
        if first is not None and first["role"] == "system":
            raise RowFault(
                "two system turns",
                self.parts["system"],
                "holds a system prompt, and the conversation begins with another",
            )
        return [_turn("system", said)]

    def _optional(self, row: Mapping[str, Any], part: str) -> str:
        """The text of a column that rows may do without: "" where it is null or missing."""
        value = row.get(self.parts[part]) if part in self.parts else None
        return (
            ""
            if value is None
            else text_of(value, self.parts[part], may_be_blank=True).strip("\n") * bool(value.strip())
        )

    def _history(self, row: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Earlier rounds of an Alpaca row: pairs of an instruction and its response."""
        column = self.parts.get("history", "history")
        rounds = row.get(column) if "history" in self.parts else None
        if rounds is None or rounds == "":
            return []
        if not isinstance(rounds, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in rounds):
            raise RowFault(
                "broken history", column, f"holds {shown(rounds)}, and pairs of instruction and response are expected"
            )
        return [
            (text_of(pair[0], f"{column}[{i}]"), text_of(pair[1], f"{column}[{i}]")) for i, pair in enumerate(rounds)
        ]

    def _extras(self, row: Mapping[str, Any], read: Mapping[str, Any]) -> dict[str, Any]:
        columns = {part: self.parts[part] for part in ALWAYS_READ if part in self.parts}
        own = {part: row.get(column) for part, column in columns.items() if part not in TEACHER_PARTS}
        if len(own) < len(columns):
            instead = partial(self._asked_instead, row, read["prompt"])
            own[TEACHER_PROMPT] = teacher_asked(row, self.parts, read["prompt"], instead, self.style)
        if "tools" in own:
            own["tools"] = _tools(own["tools"], columns["tools"])
        if "chat_template_kwargs" in own:
            own["chat_template_kwargs"] = _kwargs(own["chat_template_kwargs"], columns["chat_template_kwargs"])
        if spans := own.get("weight_spans"):
            own["weight_spans"] = self._spans(spans, row, read)
        return own

    def _asked_instead(self, row: Mapping[str, Any], prompt: Asked, change: Callable[[str], str]) -> Asked:
        """The prompt that a row would have with another question, instruction or prompt."""
        asked = next((part for part in ("question", "instruction") if part in self.parts), None)
        if asked is None or isinstance(prompt, list):
            return with_last_question(prompt, change, self.form.teacher_column)
        return self._form({**row, self.parts[asked]: change(row[self.parts[asked]])})["prompt"]

    def _spans(self, spans: list[Any], row: Mapping[str, Any], read: Mapping[str, Any]) -> list[Any]:
        """Spans as the columns that are tokenised have them: of messages a list for each, an added one included."""
        if self.form.name in ("Alpaca", "question-answer") and isinstance(read["completion"], list):
            return [spans]
        is_added = "messages" in read and len(spans) < len(read["messages"]) and bool(self._optional(row, "system"))
        return [[], *spans] if is_added else spans


def _turn(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


def _two_kinds(prompt: Any, asked: str, answered: str) -> RowFault:
    kinds = ("text", "a conversation") if isinstance(prompt, str) else ("a conversation", "text")
    return RowFault(
        f"{kinds[0]} with {kinds[1]}",
        answered,
        f"is {kinds[1]}, and `{asked}` is {kinds[0]}: both are text, or both are lists of messages",
    )


def _tools(value: Any, field: str) -> str | None:
    """Schemas of tools as JSON text, which holds them as they are where arrow would give each the keys of all."""
    if value is None or value == "" or value == []:
        return None
    if isinstance(value, str):
        try:
            parsed = json.loads(value)
        except ValueError as error:
            raise RowFault(
                "broken tools", field, f"is no JSON ({shown(value)}), and a list of schemas is expected"
            ) from error
        if isinstance(parsed, list):
            return value if parsed else None
        value = parsed
    if not isinstance(value, list):
        raise RowFault("broken tools", field, f"holds {kind_of(value)}, and a list of schemas is expected")
    return json.dumps(without_nulls(value), ensure_ascii=False)


def _kwargs(value: Any, field: str) -> dict[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise RowFault("broken chat_template_kwargs", field, f"holds {kind_of(value)}, and an object is expected")
    return without_nulls(dict(value or {}))
