"""A pilot: a few steps of a run, timed, in this process. What they change is thrown away."""

import statistics
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from qtarget.job.build import JobTrainer, build_trainer, remove_if_empty
from qtarget.job.config.checked_job import Job
from qtarget.job.cost.teacher_speed import synchronised_clock, teacher_speeds
from qtarget.job.teacher_mass import mass_warnings

STEPS_TIMED = 3
"""Steps that count; one before them warms up."""
DRAWN, PROMPT_TOKENS, TOKENS_DRAWN = 8, 32, 16
"""Completions that are drawn at once to time generation, tokens of their prompts, and of each."""


class Pilot(NamedTuple):
    """What the pilot measured.

    Attributes:
        train_seconds: of a token in training, padding included: forward and backward, teachers too.
        optimizer_seconds: of an optimizer step.
        evaluation_seconds: of a token in evaluation.
        generation: tokens a second when `DRAWN` completions are drawn at once; None where nobody asked.
        peak: bytes of the process, or of the GPU, at the most; None where nothing says so.
        thin_teachers: warnings of caches and servers that hold little of their teacher.
        teacher_speeds: tokens a second of teachers that are loaded or served, by name, as a cache would ask them.
    """

    train_seconds: float
    optimizer_seconds: float
    evaluation_seconds: float
    generation: float | None
    peak: int | None
    steps: int = STEPS_TIMED
    thin_teachers: tuple[str, ...] = ()
    teacher_speeds: Mapping[str, float] = MappingProxyType({})


def run_pilot(job: Job, generates: bool) -> Pilot:
    """Load what the run loads, and time a few of its steps.

    Args:
        generates: time generation too.

    Raises:
        ValueError: as `qtarget validate`, of models and rows that cannot be trained.
    """
    with remove_if_empty(job.output):
        trainer = build_trainer(job)
        micro, updates = _train(trainer)
        evaluated = _evaluate(trainer)
        speed = _generate(trainer) if generates else None
        thin, peak = tuple(mass_warnings(trainer)), peak_bytes()
        speeds = teacher_speeds(trainer, job)
    seconds = statistics.median(micro), statistics.median(updates), evaluated
    return Pilot(*seconds, speed, peak, thin_teachers=thin, teacher_speeds=speeds)


def _train(trainer: JobTrainer) -> tuple[list[float], list[float]]:
    """Seconds of a token and of an update, for each step."""
    model, optimizer = trainer.model.train(), trainer.create_optimizer()
    batches = _forever(trainer)
    micro, updates = [], []
    for step in range(STEPS_TIMED + 1):
        batch = next(batches)
        start = synchronised_clock()
        with trainer.compute_loss_context_manager():
            loss = trainer.compute_loss(model, batch)
        loss.backward()
        middle = synchronised_clock()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step:
            micro.append((middle - start) / batch["input_ids"].numel())
            updates.append(synchronised_clock() - middle)
    return micro, updates


def _forever(trainer: JobTrainer) -> Any:
    while True:
        yield from trainer.get_train_dataloader()


@torch.no_grad()
def _evaluate(trainer: JobTrainer) -> float:
    model, batch = trainer.model.eval(), next(_forever(trainer))
    start = synchronised_clock()
    with trainer.compute_loss_context_manager():
        trainer.compute_loss(model, batch)
    return (synchronised_clock() - start) / batch["input_ids"].numel()


@torch.no_grad()
def _generate(trainer: JobTrainer) -> float:
    """Tokens a second; no end token ends a completion."""
    model: Any = trainer.model.eval()
    ids = torch.ones(DRAWN, PROMPT_TOKENS, dtype=torch.long, device=model.device)
    options = {"max_new_tokens": TOKENS_DRAWN, "min_new_tokens": TOKENS_DRAWN, "do_sample": False}
    seconds = []
    for _ in range(2):
        start = synchronised_clock()
        made: Tensor = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
        seconds.append(synchronised_clock() - start)
    return DRAWN * (made.shape[1] - PROMPT_TOKENS) / min(seconds)


def peak_bytes() -> int | None:
    """The most memory that this process has held: of a GPU what torch allocated there; None where nothing says so."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
