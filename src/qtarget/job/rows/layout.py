"""The rows a run takes, laid out in the columns the trainer reads, with prompts as evaluation asks them."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from qtarget.evaluate.nouns import Question
from qtarget.evaluate.prompts import prompt_ids
from qtarget.job.config.checked_job import DataSource, Job, Layout
from qtarget.job.rows.mixtures import AnyRows, load_sets
from qtarget.target.types import IGNORED


@dataclass(frozen=True)
class RunRows:
    """The rows of a source that a run takes.

    Attributes:
        taken: with the columns of the source.
        laid_out: with the columns the trainer reads: as they came, `prompt` and `completion`, or `input_ids` and
            `labels`.
        notes: sentences about what was made of files and sets.
    """

    taken: AnyRows
    laid_out: AnyRows
    notes: tuple[str, ...] = ()


def training_rows(job: Job) -> RunRows:
    """The rows to train on.

    Raises:
        ValueError: the rows do not exist, a column is missing or holds no text, or there are fewer than `train_rows`.
    """
    return _take_rows(job, job.train, "train_dataset")


def evaluation_rows(job: Job) -> RunRows | None:
    """The rows to measure the loss on, all of them; None where the run names none."""
    return None if job.evaluation is None else _take_rows(job, job.evaluation, "eval_dataset")


def _take_rows(job: Job, source: DataSource, key: str) -> RunRows:
    rows, notes = load_sets(job, source, key)
    if job.layout is None:
        return RunRows(rows, rows, notes)
    for column in (job.layout.prompt_column, job.layout.completion_column):
        _check_column(column, rows, job.layout, key)
    layout, seed = job.layout, job.layout.seed
    take = layout.take if key == "train_dataset" else None
    if key == "train_dataset" and seed is not None:
        rows = rows.shuffle(seed=seed)
    if not layout.drop_longer:
        rows = _first(rows, take, key, job)
    laid_out = _lay_out(rows, job)
    if layout.drop_longer:
        rows, laid_out = _fitting(rows, laid_out, job)
        rows, laid_out = _first(rows, take, key, job), _first(laid_out, take, key, job)
    return RunRows(rows, laid_out, notes)


def _fitting(rows: AnyRows, laid_out: AnyRows, job: Job) -> tuple[AnyRows, AnyRows]:
    """The rows of at most `max_length` tokens; of a stream they are known only once they are laid out."""
    longest = job.args.max_length or 0
    if not isinstance(laid_out, Dataset) or not isinstance(rows, Dataset):
        return rows, laid_out.filter(lambda row: len(row["input_ids"]) <= longest)
    fits = [index for index, ids in enumerate(laid_out["input_ids"]) if len(ids) <= longest]
    return rows.select(fits), laid_out.select(fits)


def _first(rows: AnyRows, take: int | None, key: str, job: Job) -> AnyRows:
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


def _check_column(column: str, rows: AnyRows, layout: Layout, key: str) -> None:
    if column in (rows.column_names or ()):
        return
    name = "prompt_column" if column == layout.prompt_column else "completion_column"
    raise ValueError(
        f"`{key}` has no column `{column}`; it has {', '.join(rows.column_names or ())}. Write `{name}:` and one of "
        "these."
    )


def _lay_out(rows: AnyRows, job: Job) -> AnyRows:
    """Columns `prompt` and `completion`; where the layout names a prompt, token ids with labels on the completion."""
    layout = job.layout
    assert layout is not None
    if layout.prompt is None:
        row = partial(_texts, layout=layout)
    else:
        row = partial(_token_row, layout=layout, tokenizer=_tokenizer(job))
    processes: Any = {"num_proc": job.args.dataset_num_proc} if isinstance(rows, Dataset) else {}
    return rows.map(row, with_indices=True, remove_columns=rows.column_names, **processes)


def _texts(row: dict[str, Any], index: int, layout: Layout) -> dict[str, str]:
    prompt, completion = row[layout.prompt_column], _last_answer(row[layout.completion_column])
    for column, text in ((layout.prompt_column, prompt), (layout.completion_column, completion)):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(
                f"row {index}: `{column}` holds {text!r}; expected text that is not empty, or for the completion a "
                "conversation with a turn of the assistant."
            )
    return {"prompt": prompt, "completion": completion}


def _last_answer(value: Any) -> Any:
    """The completion: text, or the assistant's last turn of a conversation."""
    if not isinstance(value, list):
        return value
    return next((turn["content"] for turn in reversed(value) if turn.get("role") == "assistant"), None)


def _token_row(
    row: dict[str, Any], index: int, layout: Layout, tokenizer: PreTrainedTokenizerBase
) -> dict[str, list[int]]:
    """Token ids of the prompt as evaluation asks it, the completion and the end token; the latter two are learned."""
    text = _texts(row, index, layout)
    prompt = prompt_ids(str(layout.prompt), Question("", text["prompt"], ""), tokenizer)
    completion: Any = tokenizer(text["completion"], add_special_tokens=False)["input_ids"]
    answer = [*completion, tokenizer.eos_token_id]
    return {"input_ids": [*prompt, *answer], "labels": [IGNORED] * len(prompt) + answer}


def _tokenizer(job: Job) -> PreTrainedTokenizerBase:
    tokenizer = AutoTokenizer.from_pretrained(
        job.model, revision=job.model_args.model_revision, trust_remote_code=job.args.trust_remote_code
    )
    if job.args.eos_token is not None:
        tokenizer.eos_token = job.args.eos_token
    return tokenizer
