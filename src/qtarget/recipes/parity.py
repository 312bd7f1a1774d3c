"""Training must ask exactly as evaluation does. Before the first step, both sets of token ids are compared."""

from typing import Any

from transformers import PreTrainedTokenizerBase

from qtarget.evaluate.generators.drawing import ends_of
from qtarget.evaluate.nouns import Question
from qtarget.evaluate.prompts import check_as_trained, prompt_ids
from qtarget.job.build import JobTrainer
from qtarget.job.rows.layout import training_rows
from qtarget.teacher.documents import IGNORED

CHECKED_ROWS = 32


def check_parity(trainer: JobTrainer, prompt: str) -> int:
    """Compare the prompts of the trainer's first rows with evaluation's. Returns how many were compared.

    Args:
        prompt: name of the prompt that evaluation uses.

    Raises:
        ValueError: a row does not begin with evaluation's prompt, begins a sequence twice or not as the tokenizer
            does, or does not teach an end that generation stops at.
    """
    job, tokenizer = trainer.facts.job, trainer.text_tokenizer
    limit, texts = job.args.max_length or 10**9, training_rows(job).questions[:CHECKED_ROWS]
    prompts = [prompt_ids(prompt, Question("", text, ""), tokenizer) for text in texts]
    fitting = [ids for ids in prompts if len(ids) < limit]  # the trainer drops a row whose prompt alone is too long
    rows: Any = trainer.train_dataset
    for ids, row in zip(fitting, rows, strict=False):
        check_as_trained(ids, row["input_ids"], tokenizer)
        _check_begin(ids, tokenizer)
        if len(row["input_ids"]) < limit:
            _check_end(row["labels"], ids, trainer)
    return min(len(fitting), len(rows))


def _check_begin(ids: tuple[int, ...], tokenizer: PreTrainedTokenizerBase) -> None:
    bos: Any = tokenizer.bos_token_id
    of_nothing: Any = tokenizer("")["input_ids"]
    if ids.count(bos) != of_nothing.count(bos):
        raise ValueError(
            f"the prompt has {ids.count(bos)} beginning-of-sequence tokens where the tokenizer of "
            f"{tokenizer.name_or_path} puts {of_nothing.count(bos)}; choose another `prompt_format`."
        )


def _check_end(labels: list[int], prompt: tuple[int, ...], trainer: JobTrainer) -> None:
    tokenizer = trainer.text_tokenizer
    learned = labels[len(prompt) :]
    if labels[: len(prompt)] != [IGNORED] * len(prompt) or IGNORED in learned:
        raise ValueError("a row learns its prompt, or not all of its completion; look at its `labels`.")
    if learned[-1] not in ends_of(trainer.model, tokenizer):
        raise ValueError(
            f"rows end with {tokenizer.convert_ids_to_tokens(learned[-1])!r}, at which the model's generation does not "
            "stop, so every answer would run to the limit; write `eos_token:` with one it stops at."
        )
