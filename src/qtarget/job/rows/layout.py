"""The rows a run takes and, where it names a prompt, their token ids: asked as evaluation asks."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset, IterableDataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from qtarget.data import (
    TEACHER_IDS,
    TEACHER_PROMPT,
    Asker,
    ChatStyle,
    OpenRows,
    RowCounts,
    RowFault,
    RowLook,
    RowPolicy,
    column_names,
    in_place,
    open_rows,
    sift,
    sift_stream,
)
from qtarget.data.chat.turn_training import TRAINED
from qtarget.data.forms.row_form import RowForm
from qtarget.evaluate.nouns import Question
from qtarget.evaluate.prompts import prompt_ids
from qtarget.job.config.checked_job import DataSource, Job
from qtarget.job.rows.mixtures import AnyRows, SourceRows, load_sets, mixture_of
from qtarget.target.types import IGNORED
from qtarget.train import RowMixture

ANY_TEMPLATE = ChatStyle("")
"""Evaluation's prompts are no chat template, so rows need none: a question is the user's only turn."""


@dataclass(frozen=True)
class RunRows:
    """The rows of a source that a run takes.

    Attributes:
        taken: with the columns of the source; of a list of sets a mixture.
        laid_out: what the trainer is given: the same, or `input_ids` and `labels`.
        questions: where the run names a prompt, the text that each row of `laid_out` asks.
        form: what rows were before they were laid out, and how they are read; "" where the trainer says it.
        notes: sentences about what was made of files and sets.
        dropped: rows that were left out to lay the others out, by reason; the trainer leaves out others.
        sets: of a mixture that was laid out, each of its sets.
    """

    taken: AnyRows | RowMixture
    laid_out: AnyRows | RowMixture
    questions: tuple[str, ...] = ()
    form: str = ""
    dropped: Counter[str] = field(default_factory=Counter)
    notes: tuple[str, ...] = ()
    sets: tuple["RunRows", ...] = ()

    def counted(self, counts: RowCounts) -> RowCounts:
        """The trainer's counts, with what came before it."""
        if self.sets:
            own = zip(self.sets, counts.sets.items(), strict=True)
            whole = replace(counts, sets={name: rows.counted(of_set) for rows, (name, of_set) in own})
            return whole if counts.given is None else whole.by_now()
        if not self.form:
            return counts
        if counts.given is None:
            return replace(counts, form=self.form, dropped={} if counts.is_uncounted else self.dropped)
        given = counts.given + sum(self.dropped.values())
        return replace(counts, form=self.form, given=given, dropped={**self.dropped, **counts.dropped})


class _Asking(NamedTuple):
    """How one set of rows is asked.

    Attributes:
        key: of the configuration.  name: of the set, for errors.
        columns: what its columns are.
        take: how many rows are taken; None for all.
        shares_columns: whether they are those of every set of a mixture.
    """

    job: Job
    key: str
    name: str
    columns: Any
    take: int | None
    shares_columns: bool = False


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
    loaded, layout = load_sets(job, source, key), job.layout
    take = layout.take if layout is not None and key == "train_dataset" else None
    if source.sets:
        return _take_sets(job, loaded, key, take)
    rows, notes = loaded.rows[0], loaded.notes
    if layout is None:
        return RunRows(rows, rows, notes=notes)
    if key == "train_dataset" and layout.seed is not None:
        rows = rows.shuffle(seed=layout.seed)
    if not layout.drop_longer:
        rows = _first(rows, take, key, job)
    if layout.prompt is None:
        return RunRows(rows, rows, notes=notes)
    name = "train" if key == "train_dataset" else "eval"
    return replace(_asked(rows, _Asking(job, key, name, job.args.columns, take)), notes=notes)


def _take_sets(job: Job, loaded: SourceRows, key: str, take: int | None) -> RunRows:
    """Every set for itself; of what comes of them, mixed, the run takes rows."""
    layout, name = job.layout, "train" if key == "train_dataset" else "eval"

    def select(rows: Any) -> Any:
        seed = layout.seed if layout is not None and key == "train_dataset" else None
        return _first(rows if seed is None else rows.shuffle(seed=seed), take, key, job)

    given = mixture_of(job, loaded, loaded.rows, select)
    if layout is None or layout.prompt is None:
        return RunRows(given, given, notes=loaded.notes)
    asking = [
        _Asking(job, key, own, part.columns or job.args.columns, None, not part.columns)
        for own, part in zip(given.names(name), loaded.source, strict=True)
    ]
    sets = tuple(_asked(rows, how) for rows, how in zip(loaded.rows, asking, strict=True))
    laid_out = mixture_of(job, loaded, [each.laid_out for each in sets], select)
    questions = tuple(text for each in sets for text in each.questions)
    return RunRows(given, laid_out, questions, notes=loaded.notes, sets=sets)


def _first(rows: Any, take: int | None, key: str, job: Job) -> Any:
    if take is None:
        return rows
    if not isinstance(rows, Dataset):
        return rows.take(take)
    if job.row_limit is not None:
        take = min(take, len(rows))
    if len(rows) < take:
        raise ValueError(
            f"`train_rows: {take}` asks for more rows than `{key}` has; write `train_rows: {len(rows)}` or fewer."
        )
    return rows.select(range(take))


def _asked(rows: Any, how: _Asking) -> RunRows:
    """The rows as token ids: evaluation's prompt, the completion and the end token; the latter two are learned."""
    return _asked_stream(rows, how) if isinstance(rows, IterableDataset) else _asked_whole(rows, how)


def _asked_whole(rows: Dataset, how: _Asking) -> RunRows:
    job, key, take = how.job, how.key, how.take
    assert job.layout is not None
    opened = _questions(rows, how)
    questions: Any = opened.rows
    indices = np.arange(len(rows)) if opened.good is None else opened.good
    laid_out = questions.map(
        _token_row_of(job, opened.form), remove_columns=questions.column_names, num_proc=job.args.dataset_num_proc
    )
    if job.layout.drop_longer:
        fits = [index for index, ids in enumerate(laid_out["input_ids"]) if len(ids) <= (job.args.max_length or 0)]
        opened.dropped.update({"longer than max_length": len(laid_out) - len(fits)} if take is None else {})
        laid_out = _first(laid_out.select(fits), take, key, job)
        fits = fits[: len(laid_out)]
        questions, rows = questions.select(fits), rows.select(indices[fits])
    texts = tuple(_question_and_answer(row)[0] for row in questions)
    return RunRows(rows, laid_out, texts, opened.form.sentence(), opened.dropped)


def _asked_stream(rows: IterableDataset, how: _Asking) -> RunRows:
    """A stream of the same; which rows are left out is known once they come."""
    job, key, take = how.job, how.key, how.take
    assert job.layout is not None
    opened = _questions(rows, how)
    laid_out: Any = opened.rows.map(_token_row_of(job, opened.form), remove_columns=column_names(opened.rows))
    if job.layout.drop_longer:
        longest = job.args.max_length or 0
        rows, laid_out = (
            _first(each, take, key, job)
            for each in (rows, laid_out.filter(lambda row: len(row["input_ids"]) <= longest))
        )
    return RunRows(rows, laid_out, (), opened.form.sentence(), opened.dropped)


def _token_row_of(job: Job, form: RowForm) -> Callable[[dict[str, Any]], dict[str, list[int]]]:
    assert job.layout is not None
    return partial(
        _token_row, prompt=str(job.layout.prompt), tokenizer=tokenizer_of_run(job), teacher_column=form.teacher_column
    )


def _questions(rows: AnyRows, how: _Asking) -> OpenRows:
    """The rows that `open_rows` takes, and of these the ones that ask one question."""
    job = how.job
    processes = job.args.dataset_num_proc
    policy = RowPolicy(how.name, job.args.bad_rows, Asker.COMMAND_LINE, processes, shares_columns=how.shares_columns)
    opened = open_rows(rows, policy, ANY_TEMPLATE, columns=how.columns, text_field="text", takes_last_answer=True)
    if opened.form.becomes not in ("prompt and completion", "messages"):
        line = Asker.COMMAND_LINE.line("columns", {"prompt": "question", "completion": "answer"})
        raise ValueError(
            f"`prompt_format` asks a question, and the {how.name} data set has {opened.form.sentence()}, which ask "
            f"none; write {line}, or remove `prompt_format`."
        )
    if not isinstance(opened.rows, Dataset):
        names = column_names(opened.rows)
        return replace(opened, rows=sift_stream(opened.rows, _checked_question, policy, names, opened.dropped))
    sifting = sift(opened.rows, RowLook(_checked_question), replace(policy, places=opened.places))
    if sifting.good is None:
        return opened
    good = np.arange(len(opened.rows)) if opened.good is None else opened.good
    kept = opened.rows.select(sifting.good)
    return OpenRows(
        kept, opened.form, opened.given, opened.dropped + sifting.dropped, good[sifting.good], opened.places
    )


def _checked_question(row: Mapping[str, Any]) -> dict[str, Any]:
    _question_and_answer(row)
    if TEACHER_PROMPT in row:
        _question_and_answer(_for_teacher(row))
    return {}


def _for_teacher(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as the teacher is asked it."""
    return {**row, "prompt": row[TEACHER_PROMPT]}


def _question_and_answer(row: Any) -> tuple[str, str]:
    """The question and the answer of a row: its texts, or the two turns of its conversation."""
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
    if turns[1].get(TRAINED) == 0 or turns[0].get(TRAINED) == 1:
        raise RowFault(
            "message that is learned otherwise",
            "messages" if "messages" in row else "completion",
            "says that its answer is not learned, or its question is, and `prompt_format` learns the answer alone",
            "Remove `prompt_format`.",
        )
    return turns[0]["content"], turns[1]["content"]


def _token_row(
    row: dict[str, Any], prompt: str, tokenizer: PreTrainedTokenizerBase, teacher_column: str
) -> dict[str, list[Any]]:
    made = _asked_tokens(row, prompt, tokenizer)
    if TEACHER_PROMPT not in row:
        return made
    others = _asked_tokens(_for_teacher(row), prompt, tokenizer)["input_ids"]
    return {**made, TEACHER_IDS: in_place(made["input_ids"], made["labels"], others, teacher_column)}


def _asked_tokens(row: dict[str, Any], prompt: str, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[int]]:
    question, answer = _question_and_answer(row)
    ids = prompt_ids(prompt, Question("", question, ""), tokenizer)
    completion: Any = tokenizer(answer, add_special_tokens=False)["input_ids"]
    learned = [*completion, tokenizer.eos_token_id]
    return {"input_ids": [*ids, *learned], "labels": [IGNORED] * len(ids) + learned}


def tokenizer_of_run(job: Job) -> PreTrainedTokenizerBase:
    """The model's own, with the run's end token."""
    tokenizer = AutoTokenizer.from_pretrained(
        job.model, revision=job.model_args.model_revision, trust_remote_code=job.args.trust_remote_code
    )
    if job.args.eos_token is not None:
        tokenizer.eos_token = job.args.eos_token
    return tokenizer
