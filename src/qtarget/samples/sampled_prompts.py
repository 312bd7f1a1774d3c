"""The prompts of rows: as they came, and as the token ids under which the student is trained on their completions."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from qtarget.data import TEACHER_PROMPT, Asker, ChatStyle, OpenRows, RowFault, RowPolicy, column_names, open_rows
from qtarget.data.chat.chat_template import ChatTemplate
from qtarget.data.chat.conversation import Conversation
from qtarget.evaluate.nouns import Question
from qtarget.evaluate.prompts import plain_prompt, prompt_ids, refuse_two_bos
from qtarget.evaluate.tasks.fields import content_id
from qtarget.job.config.checked_job import DataSource, Job
from qtarget.job.rows.layout import ANY_TEMPLATE, training_rows
from qtarget.job.rows.mixtures import load_sets
from qtarget.train.row_door import door_style

CARRIED = ("tools", "chat_template_kwargs", TEACHER_PROMPT)
"""Columns of a row that stay with its prompt."""
HOLDS_ANSWERS = {
    "completion", "chosen", "messages", "conversations", "instruction", "question", "text", "input_ids", "response",
}  # fmt: skip
"""Columns beside `prompt` by which rows are more than prompts."""
ANY_ANSWER = "."
"""Stands in for the completion of rows that have none; it is neither asked nor trained on."""
KEY_OF_PROMPTS = "sample: prompts"
"""How errors call the key of files of prompts."""
PromptOfRow = str | list[dict[str, Any]]


@dataclass(frozen=True)
class SampledPrompt:
    """A prompt to answer.

    Attributes:
        prompt: text, or messages, as a row to train on holds it.
        ids: as the writer is given it.
        carried: columns that stay with the prompt.
        row: the whole row it came from.
        place: of that row, for errors.
    """

    prompt: PromptOfRow
    ids: tuple[int, ...]
    carried: Mapping[str, Any] = field(default_factory=dict)
    row: Mapping[str, Any] = field(default_factory=dict)
    place: str = ""

    @property
    def told(self) -> str:
        """What a teacher reads in the prompt's place, as JSON; "" where it reads the prompt itself."""
        given = self.carried.get(TEACHER_PROMPT, self.prompt)
        return "" if given == self.prompt else json.dumps(given, sort_keys=True)

    @property
    def name(self) -> str:
        """The same for the same token ids under which a teacher is told the same."""
        return content_id(" ".join(map(str, self.ids)), *filter(None, [self.told]))

    @property
    def text(self) -> str:
        """What is asked, in words: the text, or what the last message says."""
        return self.prompt if isinstance(self.prompt, str) else str(self.prompt[-1].get("content") or "")


class _RowSource(NamedTuple):
    """Rows with prompts: the training rows, or files of prompts.

    Attributes:
        columns: what the columns are, as the key `columns` says.
        is_own: whether they are files of prompts, of which nothing else is read.
    """

    rows: Any
    columns: Any
    is_own: bool


class Rendering(NamedTuple):
    """How prompts become token ids.

    Attributes:
        tokenizer: the writer's.
        format: a name in `evaluate.prompts`, as `prompt_format` gives it; None as the trainer renders rows.
        style: of the student's chat template, by which rows become conversations.
        template: a chat template in the place of the writer's own; None for its own.
    """

    tokenizer: PreTrainedTokenizerBase
    format: str | None
    style: ChatStyle
    template: str | None


def rendering_of(job: Job, student: PreTrainedTokenizerBase, writer: PreTrainedTokenizerBase) -> Rendering:
    """How a run's prompts are rendered. A student that writes itself is asked by the template it is trained with."""
    style = door_style(job.args, student)
    is_own = job.sampling.model is None and job.args.chat_template_path is not None
    prompt = None if job.layout is None else job.layout.prompt
    return Rendering(writer, prompt, ANY_TEMPLATE if prompt else style, style.template if is_own else None)


def sampled_prompts(job: Job, how: Rendering) -> list[SampledPrompt]:
    """The prompts of a run's rows, or of the files that `sample` names, in their order; equal ones stand once for each
    row.

    Raises:
        ValueError: rows that cannot be read or have no prompt, or a template that refuses one.
    """
    found = [prompt for source in _sources(job) for prompt in _prompts_of(source, job, how)]
    if not found:
        raise ValueError("there are no rows, so there is no prompt to answer; look at `train_dataset`.")
    return found


def source_of_prompts(names: str | list[str]) -> DataSource:
    """The files that `sample: {prompts: …}` names."""
    return DataSource((names,) if isinstance(names, str) else tuple(names), None, "train")


def _sources(job: Job) -> Iterator[_RowSource]:
    if job.sampling.prompts is not None:
        for rows in load_sets(job, source_of_prompts(job.sampling.prompts), KEY_OF_PROMPTS).rows:
            yield _RowSource(rows, None, True)
    elif job.train.sets:
        loaded = load_sets(job, job.train, "train_dataset")
        for rows, part in zip(loaded.rows, loaded.source, strict=True):
            yield _RowSource(rows, part.columns or job.args.columns, False)
    else:
        yield _RowSource(training_rows(job).taken, job.args.columns, False)


def _prompts_of(source: _RowSource, job: Job, how: Rendering) -> Iterator[SampledPrompt]:
    rows = _with_any_answer(source.rows) if source.is_own else source.rows
    policy = RowPolicy("sample" if source.is_own else "train", job.args.bad_rows, Asker.COMMAND_LINE)
    _check_completions(source, job)
    opened = open_rows(
        rows, policy, how.style, columns=source.columns, text_field=job.args.dataset_text_field,
        takes_last_answer=how.format is not None,
    )  # fmt: skip
    _check_form(opened, policy.name)
    given = source.rows if opened.good is None else source.rows.select(opened.good)
    template = ChatTemplate(how.tokenizer, how.template, Asker.COMMAND_LINE)
    indices = range(len(given)) if opened.good is None else opened.good
    for index, row, read in zip(indices, given, opened.rows, strict=True):
        place = f"row {index + 1} of the {policy.name} data set"
        try:
            prompt = _asked(read, how)
            ids = _ids(prompt, read, how, template)
        except RowFault as fault:
            raise ValueError(f"{place}: `{fault.field}` {fault.found}. {fault.remedy}".rstrip()) from fault
        carried = {name: read[name] for name in CARRIED if read.get(name)}
        yield SampledPrompt(prompt, ids, carried, dict(row), place)


def _with_any_answer(rows: Dataset) -> Dataset:
    """Rows of prompts alone, with a completion that is never read."""
    names = column_names(rows)
    if "prompt" not in names or "completion" in names:
        return rows
    is_text = isinstance(rows[0]["prompt"], str) if len(rows) else True
    answer = ANY_ANSWER if is_text else [{"role": "assistant", "content": ANY_ANSWER}]
    return rows.add_column("completion", [answer] * len(rows))


def _check_completions(source: _RowSource, job: Job) -> None:
    """Refuse training rows that are prompts alone, which a key of their own takes."""
    names = set(column_names(source.rows))
    if source.is_own or source.columns or "prompt" not in names or names & HOLDS_ANSWERS:
        return
    given = job.given["train_dataset"]
    line = f"`sample: {{prompts: {given if isinstance(given, str) else 'FILE'}}}`"
    raise ValueError(
        f"the train data set has prompts and no completions, and its rows are trained on; write {line} (or --prompts) "
        "to have these answered, and in `train_dataset` rows with `prompt` and `completion`."
    )


def _check_form(opened: OpenRows, name: str) -> None:
    if opened.form.becomes in ("prompt and completion", "messages"):
        return
    line = Asker.COMMAND_LINE.line("columns", {"prompt": "question", "completion": "answer"})
    raise ValueError(
        f"the {name} data set has {opened.form.sentence()}, which have no prompt to answer; write {line}, or "
        "`sample: {prompts: FILE}` with a file of prompts."
    )


def _asked(row: Mapping[str, Any], how: Rendering) -> PromptOfRow:
    """The prompt of a row as `open_rows` gives it: of a conversation, all before the assistant's last turn."""
    if "messages" not in row:
        prompt = row["prompt"]
    else:
        prompt = row["messages"][: Conversation.of(row).turns[-1]]
        if not prompt:
            raise RowFault("no prompt", "messages", "begins with the assistant's only turn, so nothing is asked")
    if how.format is None or isinstance(prompt, str):
        return prompt
    if [turn["role"] for turn in prompt] != ["user"]:
        raise RowFault(
            "more than a question", "messages" if "messages" in row else "prompt",
            "is more than one question, and `prompt_format` asks one", "Remove `prompt_format`.",
        )  # fmt: skip
    return prompt[0]["content"]


def _ids(prompt: PromptOfRow, row: Mapping[str, Any], how: Rendering, template: ChatTemplate) -> tuple[int, ...]:
    if how.format is not None:
        return prompt_ids(how.format, Question("", str(prompt), ""), how.tokenizer)
    if isinstance(prompt, str):
        return plain_prompt(Question("", prompt, ""), how.tokenizer)
    others = {name: row.get(name) for name in ("tools", "chat_template_kwargs")}
    text = template.text(Conversation.of({"messages": prompt, **others}), asks=True)
    ids: Any = how.tokenizer(text, add_special_tokens=False)["input_ids"]
    refuse_two_bos(ids, how.tokenizer, "of the chat template")
    return tuple(ids)
