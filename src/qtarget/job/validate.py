"""`qtarget validate`, a rehearsal: everything is opened and checked, one step is computed, nothing is kept."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from qtarget.data import WEIGHT, learned_tokens
from qtarget.job.build import JobTrainer, build_trainer, remove_if_empty
from qtarget.job.config.checked_job import Job
from qtarget.job.facts import DataFacts
from qtarget.job.output_folder import check_output
from qtarget.job.rows.own_samples import rounds_in_words
from qtarget.job.rows.sources import FIRST_ROWS
from qtarget.job.teacher_context import TeacherContext, leak_warnings, teacher_contexts, teacher_name
from qtarget.job.teacher_mass import mass_warnings
from qtarget.target.types import IGNORED
from qtarget.train.equal_teacher import stands_still

SHOWN_TOKENS = 160


@dataclass(frozen=True)
class Token:
    """A token of a rendered row.

    Attributes:
        supervised: whether it is learned.
        weight: None where the rows give none.
    """

    text: str
    supervised: bool
    weight: float | None


@dataclass(frozen=True)
class TrialStep:
    """One forward and backward pass over the first batch of `rows` rows. loss: the objective, in nats a token."""

    rows: int
    loss: float
    gradient_norm: float


@dataclass(frozen=True)
class Rehearsal:
    """What `qtarget validate` reports.

    Attributes:
        model: the student's directory or hub name.
        parameters, trainable: numbers of the student's weights.
        vocabulary: rows of each model's output layer, and tokens of the tokenizer.
        train, evaluation: the rows, and how many of them and of their tokens are trained on.
        row: the first tokens of the first row.
        row_tokens: how many that row has.
        steps, rows_per_step: optimizer steps of the run, and rows of each, over all ranks. How many steps is not known
            (None) where it depends on rows that were not looked at.
        note: the precision, where the machine chose it.
        resumes: the checkpoint that the run goes on from; None for a new run.
        skipped: newer checkpoints that are not whole, each with the reason.
        warnings: on caches and servers that hold too little of their teacher, and prompts of the teacher that hold
            the answer.
        contexts: what the teacher's own prompts do; nothing where rows give it none.
        rounds: what is trained on instead of these rows, in words; "" for a run of one training.
    """

    model: str
    parameters: int
    trainable: int
    vocabulary: dict[str, int]
    train: DataFacts
    evaluation: DataFacts | None
    row: tuple[Token, ...]
    row_tokens: int
    steps: int | None
    rows_per_step: int
    step: TrialStep
    note: str
    resumes: str | None = None
    skipped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    contexts: tuple[TeacherContext, ...] = ()
    rounds: str = ""


def validate_job(job: Job, quick: bool = False) -> Rehearsal:
    """Check a run and try its first step; no directory is left behind.

    Args:
        quick: look only at the first `FIRST_ROWS` rows, about, of each source.

    Raises:
        ValueError: as `prepare_training` and `rehearse`.
    """
    start = check_output(job)
    job = replace(job, row_limit=FIRST_ROWS) if quick else job
    with remove_if_empty(job.output):
        trainer = build_trainer(job)
        trainer.start_from(start)
        return rehearse(trainer)


def rehearse(trainer: JobTrainer) -> Rehearsal:
    """Count what a trainer will train on, and compute one step that changes no weight.

    Raises:
        ValueError: the gradient of the first batch is zero or not finite.
    """
    job, facts = trainer.facts.job, trainer.facts
    train: Any = trainer.train_dataset
    loader = trainer.get_train_dataloader()
    _, _, _, _, rows_per_step, _, steps = trainer.set_initial_training_values(trainer.args, loader)
    is_known = isinstance(train, Dataset) and job.row_limit is None
    first: Any = next(iter(train))
    return Rehearsal(
        model=job.model,
        parameters=sum(weight.numel() for weight in trainer.model.parameters()),
        trainable=sum(weight.numel() for weight in trainer.model.parameters() if weight.requires_grad),
        vocabulary=_vocabulary(trainer),
        train=_looked_at(trainer, facts.train, train),
        evaluation=None if facts.evaluation is None else facts.evaluation.by_now(),
        row=_row(first, trainer.text_tokenizer),
        row_tokens=len(first["input_ids"]),
        steps=steps if is_known or trainer.args.max_steps > 0 else None,
        rows_per_step=rows_per_step,
        step=_step(trainer, next(iter(loader))),
        note=facts.precision,
        resumes=None if trainer.start.newest is None else str(trainer.start.newest),
        skipped=tuple(map(str, trainer.start.skipped)),
        warnings=(*mass_warnings(trainer), *leak_warnings(trainer)),
        contexts=teacher_contexts(trainer),
        rounds=rounds_in_words(job),
    )


def _vocabulary(trainer: JobTrainer) -> dict[str, int]:
    """Tokens of the tokenizer, and rows of each model's output layer: model families pad it differently."""
    heads = {"tokenizer": len(trainer.text_tokenizer)}
    heads["model"] = trainer.model.get_output_embeddings().weight.shape[0]
    for index, teacher in enumerate(trainer.teachers):
        model: Any = getattr(teacher, "model", None)
        if model is not None:
            heads[teacher_name(trainer, index)] = model.get_output_embeddings().weight.shape[0]
    return heads


def _looked_at(trainer: JobTrainer, data: DataFacts, prepared: Any) -> DataFacts:
    """The facts of a set; of a stream with what its first rows are made of.

    Raises:
        ValueError: of a stream the first rows tell a teacher that is the student nothing, so nothing is learned.
    """
    if isinstance(prepared, Dataset):
        return data.by_now()
    first = Dataset.from_list(list(prepared.take(FIRST_ROWS)))
    trainer.check_told(first)
    data = data.by_now()  # what was left out is known once rows were read
    tokens, learned, longest = learned_tokens(first)
    counts = replace(
        data.counts, rows=len(first), sequences=len(first), tokens=tokens, learned=learned, longest=longest
    )
    return replace(data, counts=counts)


def _row(row: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> tuple[Token, ...]:
    """A prepared row, token by token. Its first token has no context, so it is never learned."""
    labels = [IGNORED, *row["labels"][1:]]
    weights = row.get(WEIGHT) or [None] * len(labels)
    columns = zip(row["input_ids"], labels, weights, strict=True)
    tokens = [Token(str(tokenizer.decode([token])), label != IGNORED, weight) for token, label, weight in columns]
    return tuple(tokens[:SHOWN_TOKENS])


def _step(trainer: JobTrainer, batch: dict[str, Any]) -> TrialStep:
    model = trainer.model.train()
    with trainer.compute_loss_context_manager():
        loss = trainer.compute_loss(model, batch)
    loss.backward()
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    norm = float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0
    model.zero_grad()
    if not (0 < norm < float("inf")):
        raise ValueError(
            f"the first batch gives a gradient of norm {norm}, so the model would not learn; look at "
            f"{_where_to_look(trainer)}the row's mask and weights, and at the method's hyperparameters."
        )
    return TrialStep(len(batch["input_ids"]), loss.item(), norm)


def _where_to_look(trainer: JobTrainer) -> str:
    """What a zero gradient may come from before all else: a teacher that says what the student says."""
    method = trainer.method
    if not method.num_teachers_read or not stands_still(method, trainer.args.reference == "initial"):
        return ""
    return (
        f'`teacher` and the prompts it reads ("{method.name}" learns where its teacher says another thing than the '
        "student, and from nothing else), at "
    )
