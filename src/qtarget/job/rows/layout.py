"""The rows a run takes and, where it names a prompt, their token ids: asked as evaluation asks."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from datasets import Dataset, IterableDataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from qtarget.data import (
    Asker,
    ChatStyle,
    OpenRows,
    RowCounts,
    RowFault,
    RowLook,
    RowPolicy,
    column_names,
    open_rows,
    sift,
    sift_stream,
)
from qtarget.evaluate.nouns import Question
from qtarget.evaluate.prompts import prompt_ids
from qtarget.job.config.checked_job import DataSource, Job
from qtarget.job.rows.mixtures import AnyRows, load_sets
from qtarget.target.types import IGNORED

ANY_TEMPLATE = ChatStyle("")
"""Evaluation's prompts are no chat template, so rows need none: a question is the user's only turn."""


@dataclass(frozen=True)
class RunRows:
    """The rows of a source that a run takes.

    Attributes:
        taken: with the columns of the source.
        laid_out: what the trainer is given: the same, or `input_ids` and `labels`.
        questions: where the run names a prompt, the text that each row of `laid_out` asks.
        form: what rows were before they were laid out, and how they are read; "" where the trainer says it.
        notes: sentences about what was made of files and sets.
        dropped: rows that were left out to lay the others out, by reason; the trainer leaves out others.
    """

    taken: AnyRows
    laid_out: AnyRows
    questions: tuple[str, ...] = ()
    form: str = ""
    dropped: Counter[str] = field(default_factory=Counter)
    notes: tuple[str, ...] = ()

    def counted(self, counts: RowCounts) -> RowCounts:
        """The trainer's counts, with what came before it."""
        if not self.form:
            return counts
        if counts.given is None:
            return replace(counts, form=self.form, dropped=self.dropped)
        given = counts.given + sum(self.dropped.values())
        return replace(counts, form=self.form, given=given, dropped={**self.dropped, **counts.dropped})


def training_rows(job: Job) -> RunRows:
    """The rows to train on.

    Raises:
        ValueError: the rows do not exist or are bad, their form is not known, or there are fewer than `train_rows`.
    """
    return _take_rows(job, job.train, "train_dataset")


def evaluation_rows(job: Job) -> RunRows | None:
    """The rows to measure the loss on, all of them; None where the run names none."""
    return None if job.evaluation is None else _take_rows(job, job.evaluation, "eval_dataset")


def _take_rows(job: Job, source: DataSource, key: str) -> RunRows:
    (rows, notes), layout = load_sets(job, source, key), job.layout
    if layout is None:
        return RunRows(rows, rows, notes=notes)
    take = layout.take if key == "train_dataset" else None
    if key == "train_dataset" and layout.seed is not None:
        rows = rows.shuffle(seed=layout.seed)
    if not layout.drop_longer:
        rows = _first(rows, take, key, job)
    if layout.prompt is None:
        return RunRows(rows, rows, notes=notes)
    asked = _asked_stream if isinstance(rows, IterableDataset) else _asked
    return replace(asked(rows, job, key, take), notes=notes)  # pyright: ignore[reportArgumentType]


def _first(rows: Any, take: int | None, key: str, job: Job) -> Any:
    if take is None:
        return rows
    if not isinstance(rows, Dataset):
        return rows.take(take)
    if job.sample is not None:
        take = min(take, len(rows))
    if len(rows) < take:
        raise ValueError(
            f"`train_rows: {take}` asks for more rows than `{key}` has; write `train_rows: {len(rows)}` or fewer."
        )
    return rows.select(range(take))


def _asked(rows: Dataset, job: Job, key: str, take: int | None) -> RunRows:
    """The rows as token ids: evaluation's prompt, the completion and the end token; the latter two are learned."""
    assert job.layout is not None
    opened = _questions(rows, job, key)
    questions: Any = opened.rows
    indices = np.arange(len(rows)) if opened.good is None else opened.good
    laid_out = questions.map(
        _token_row_of(job), remove_columns=questions.column_names, num_proc=job.args.dataset_num_proc
    )
    if job.layout.drop_longer:
        fits = [index for index, ids in enumerate(laid_out["input_ids"]) if len(ids) <= (job.args.max_length or 0)]
        opened.dropped.update({"longer than max_length": len(laid_out) - len(fits)} if take is None else {})
        laid_out = _first(laid_out.select(fits), take, key, job)
        fits = fits[: len(laid_out)]
        questions, rows = questions.select(fits), rows.select(indices[fits])
    texts = tuple(_question_and_answer(row)[0] for row in questions)
    return RunRows(rows, laid_out, texts, opened.form.sentence(), opened.dropped)


def _asked_stream(rows: IterableDataset, job: Job, key: str, take: int | None) -> RunRows:
    """A stream of the same; which rows are left out is known once they come."""
    assert job.layout is not None
    opened = _questions(rows, job, key)
    laid_out: Any = opened.rows.map(_token_row_of(job), remove_columns=column_names(opened.rows))
    if job.layout.drop_longer:
        longest = job.args.max_length or 0
        rows, laid_out = (
            _first(each, take, key, job)
            for each in (rows, laid_out.filter(lambda row: len(row["input_ids"]) <= longest))
        )
    return RunRows(rows, laid_out, (), opened.form.sentence(), opened.dropped)


def _token_row_of(job: Job) -> Callable[[dict[str, Any]], dict[str, list[int]]]:
    assert job.layout is not None
    return partial(_token_row, prompt=str(job.layout.prompt), tokenizer=_tokenizer(job))


def _questions(rows: AnyRows, job: Job, key: str) -> OpenRows:
    """The good rows behind the door, and of these the ones that ask once."""
    name = "train" if key == "train_dataset" else "eval"
    policy = RowPolicy(name, job.args.bad_rows, Asker.COMMAND_LINE, job.args.dataset_num_proc)
    columns: Any = job.args.columns
    opened = open_rows(rows, policy, ANY_TEMPLATE, columns=columns, text_field="text", takes_last_answer=True)
    if opened.form.becomes not in ("prompt and completion", "messages"):
        line = Asker.COMMAND_LINE.line("columns", {"prompt": "question", "completion": "answer"})
        raise ValueError(
            f"`prompt_format` asks a question, and `{key}` has {opened.form.sentence()}, which ask none; write {line}, "
            "or remove `prompt_format`."
        )
    if not isinstance(opened.rows, Dataset):
        names = column_names(opened.rows)
        return replace(opened, rows=sift_stream(opened.rows, _checked_question, policy, names, opened.dropped))
    sifting = sift(opened.rows, RowLook(_checked_question), policy)
    if sifting.good is None:
        return opened
    good = np.arange(len(opened.rows)) if opened.good is None else opened.good
    kept = opened.rows.select(sifting.good)
    return OpenRows(kept, opened.form, opened.given, opened.dropped + sifting.dropped, good[sifting.good])


def _checked_question(row: Mapping[str, Any]) -> dict[str, Any]:
    _question_and_answer(row)
    return {}


def _question_and_answer(row: Any) -> tuple[str, str]:
    """What a row asks, and what it answers: texts as they are; of a conversation its only question and its answer."""
    if isinstance(row.get("prompt"), str):
        return row["prompt"], row["completion"]
    turns = row["messages"] if "messages" in row else [*row["prompt"], *row["completion"]]
    roles = [turn["role"] for turn in turns]
    if roles != ["user", "assistant"] or turns[1]["content"] is None:
        field = "messages" if "messages" in row else "prompt"
        raise RowFault(
            "more than a question and its answer",
            field,
            f"has the turns {', '.join(roles)}, and `prompt_format` asks one question that is answered",
            "Remove `prompt_format` to train on whole conversations.",
        )
    return turns[0]["content"], turns[1]["content"]


def _token_row(row: dict[str, Any], prompt: str, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[int]]:
    question, answer = _question_and_answer(row)
    ids = prompt_ids(prompt, Question("", question, ""), tokenizer)
    completion: Any = tokenizer(answer, add_special_tokens=False)["input_ids"]
    learned = [*completion, tokenizer.eos_token_id]
    return {"input_ids": [*ids, *learned], "labels": [IGNORED] * len(ids) + learned}


def _tokenizer(job: Job) -> PreTrainedTokenizerBase:
    tokenizer = AutoTokenizer.from_pretrained(
        job.model, revision=job.model_args.model_revision, trust_remote_code=job.args.trust_remote_code
    )
    if job.args.eos_token is not None:
        tokenizer.eos_token = job.args.eos_token
    return tokenizer
