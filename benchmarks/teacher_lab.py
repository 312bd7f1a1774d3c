"""What a cache of K tokens does to a fine-tuning: the embedded lab, trained from caches and from the live teacher.

Each arm is trained and scored once and kept as a JSON file of its own; what is there is read, not run again.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PrinterCallback

import qtarget as qt
from qtarget import lab
from qtarget.disk.files import read_json_object, replace_text
from qtarget.evaluate import PairedDifference, paired_difference
from qtarget.evaluate.nouns import SamplingProtocol
from qtarget.models.identity import weights_identity
from qtarget.study.fine_tuning import ON_A_QUIET_CPU
from qtarget.study.scoring import score_model
from qtarget.teacher import Keep, KeptSource, LiveModel, documents_of_rows, kept_logprobs
from qtarget.teacher.cache import CacheOrigin, open_cache, plan_cache, write_cache
from qtarget.train import TargetSFTConfig, TargetSFTTrainer
from qtarget.train.lookup import rendering

KS = (4, 8, 16, 32, 64)
METHODS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("target-sft", {"eta": 0.2}),
    ("target-sft", {"eta": 0.5}),
    ("kd", {}),
)
LIVE = "live"
TAILS: dict[str, Callable[[qt.Sparse], qt.Sparse]] = {
    "uniform": lambda kept: replace(kept, tail="uniform"),
    "renormalised": qt.Sparse.renormalised,
}
"""Readings of a cache other than the default one."""


@dataclass(frozen=True)
class LabBudget:
    """How much of everything; the whole of it is part of a result's identity."""

    world: str
    seed: int
    demonstrations: int
    steps: int
    batch_size: int
    learning_rate: float
    questions: int
    samples: int
    max_new_tokens: int

    @staticmethod
    def of(world: lab.World, seed: int, quick: bool = False) -> "LabBudget":
        """The world's own budget, with 120 questions answered 16 times; `quick` is a tenth of it, answered 4 times."""
        part = 10 if quick else 1
        return LabBudget(
            world=world.name,
            seed=seed,
            demonstrations=world.demonstrations // part,
            steps=max(world.fine_tuning_steps // part, 2),
            batch_size=world.batch_size,
            learning_rate=world.learning_rate,
            questions=120 // part,
            samples=4 if quick else 16,
            max_new_tokens=world.max_new_tokens,
        )


@dataclass(frozen=True)
class LabArm:
    """A fine-tuning. `tail`: "live" (no cache), "student", "uniform", "renormalised" or "sampled" (K draws)."""

    method: str
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    tail: str = LIVE
    k: int = 0
    storage: str = "float16"
    order: int = 0  # seed of the order of rows: another one shows what training noise alone does

    @property
    def name(self) -> str:
        values = (f"{key}{value}" for key, value in self.hyperparameters.items())
        kept = () if self.tail == LIVE else (self.tail, f"k{self.k}", self.storage)
        return "-".join([self.method, *values, *(kept or (LIVE,)), *([f"order{self.order}"] if self.order else [])])


@dataclass(frozen=True)
class Result:
    """What an arm gave. `right`: of `budget.samples` answers, by question. `losses`: of every step."""

    arm: LabArm
    budget: LabBudget
    right: list[int]
    losses: list[float]

    @property
    def correct(self) -> list[list[bool]]:
        return [[True] * n + [False] * (self.budget.samples - n) for n in self.right]

    @property
    def mean(self) -> float:
        return sum(self.right) / (len(self.right) * self.budget.samples)


@dataclass(frozen=True)
class WithTail:
    """A cache read with another tail."""

    source: KeptSource
    tail: str

    def read(self, batch: Mapping[str, Any]) -> Any:
        return self.source.read(batch)

    def unpack(self, read: Any, device: torch.device) -> qt.Sparse:
        kept = self.source.unpack(read, device)
        assert isinstance(kept, qt.Sparse)
        return TAILS[self.tail](kept)

    def evidence(self, inputs: Mapping[str, Any], labels: Tensor) -> qt.Sparse:
        return self.unpack(self.source.read({**inputs, "labels": labels}), labels.device)


def arms(ks: tuple[int, ...] = KS) -> Iterator[LabArm]:
    """The live arms, then every K; all 64 tokens are kept in float32 as well."""
    for method, given in METHODS:
        yield LabArm(method, given)
        yield LabArm(method, given, order=1)
        yield from (LabArm(method, given, "student", k) for k in ks)
        yield LabArm(method, given, "student", ks[-1], "float32")
    tails = (*TAILS, "sampled")
    yield from (LabArm("kd", {}, tail, k) for k in ks for tail in (tails if k < ks[-1] else tails[-1:]))


def score(arm: LabArm, budget: LabBudget, caches: Path, results: Path) -> Result:
    """The arm's result: read from `results` if it is there for this budget, else made and saved."""
    saved = results / f"{arm.name}.json"
    if saved.is_file() and (found := _read(saved)).budget == budget:
        return found
    world = lab.world(budget.world)
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(arm, world, budget, caches, folder)
        trainer.train()
    found = score_model(
        trainer.model.eval(),
        lab.tokenizer(world),
        lab.questions(world, budget.questions, seed=budget.seed),
        SamplingProtocol("plain", budget.samples, max_new_tokens=budget.max_new_tokens, seed=budget.seed),
    )
    losses = [float(f"{entry['loss']:.9g}") for entry in trainer.state.log_history if "loss" in entry]
    result = Result(arm, budget, [sum(row) for row in found.correct], losses)
    results.mkdir(parents=True, exist_ok=True)
    replace_text(saved, json.dumps(asdict(result)) + "\n")
    return result


def _trainer(arm: LabArm, world: lab.World, budget: LabBudget, caches: Path, folder: str) -> TargetSFTTrainer:
    source: WithTail | None = None
    settings: dict[str, Any] = {"method": arm.method, "method_kwargs": arm.hyperparameters}
    if arm.tail == LIVE:
        settings["teacher"] = str(lab.teacher_path(world))
    elif arm.tail in TAILS:
        source = WithTail(KeptSource(open_cache(_cache(arm, world, budget, caches))), arm.tail)
    else:
        settings["teacher_cache"] = str(_cache(arm, world, budget, caches))
    return _built(world, budget, folder, source, seed=budget.seed + arm.order, **settings)


def _built(
    world: lab.World, budget: LabBudget, folder: str, source: WithTail | None = None, **settings: Any
) -> TargetSFTTrainer:
    rows = lab.demonstrations(world, seed=budget.seed)[: budget.demonstrations]
    args = TargetSFTConfig(
        output_dir=folder,
        max_steps=budget.steps,
        per_device_train_batch_size=budget.batch_size,
        learning_rate=budget.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=budget.steps // 20,
        diagnostics=[],
        logging_steps=1,
        **ON_A_QUIET_CPU,
        **settings,
    )
    trainer = TargetSFTTrainer(
        model=lab.load_student(world),
        args=args,
        train_dataset=Dataset.from_list([dict(row) for row in rows]),
        processing_class=lab.tokenizer(world),
        teacher=source,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _cache(arm: LabArm, world: lab.World, budget: LabBudget, caches: Path) -> Path:
    """The folder of the arm's cache, written where it is not there yet."""
    how = "sampled" if arm.tail == "sampled" else "top"
    folder, keep = caches / f"{world.name}-{budget.demonstrations}-{how}-{arm.k}-{arm.storage}", Keep(arm.k, how)
    with tempfile.TemporaryDirectory() as scratch:
        plain = _built(world, budget, scratch, method="sft")
    parts = rendering(plain.args, lab.tokenizer(world), None)
    teacher = lab.load_teacher(world)
    origin = CacheOrigin(
        **parts,
        teacher=weights_identity(str(lab.teacher_path(world))),
        compute_dtype="torch.float32",
        vocabulary=teacher.get_output_embeddings().weight.shape[0],
    )
    plan = plan_cache(documents_of_rows(plain.train_dataset), origin, keep, storage_dtype=arm.storage)  # type: ignore[arg-type]
    live = LiveModel(teacher.requires_grad_(False).eval())
    write_cache(folder, plan, lambda documents: kept_logprobs(live, documents, keep))
    return folder


def run(results: Path, quick: bool = False, world: str = "weak-operator", ks: tuple[int, ...] = KS) -> list[Result]:
    """Every arm, read or made."""
    budget, found = LabBudget.of(lab.world(world), seed=0, quick=quick), []
    with tempfile.TemporaryDirectory() as caches:
        for arm in arms(ks):
            found.append(score(arm, budget, Path(caches), results / world))
            print(f"{world}  {arm.name:44}{100 * found[-1].mean:6.1f}", flush=True)
    return found


def read(folder: Path) -> list[Result]:
    """The results of a world that were saved."""
    return [_read(path) for path in sorted(folder.glob("*.json"))]


def live_of(result: Result, results: list[Result]) -> Result:
    """The live arm that a result is held against."""
    wanted = LabArm(result.arm.method, result.arm.hyperparameters)
    return next(one for one in results if one.arm == wanted)


def against_live(result: Result, results: list[Result]) -> PairedDifference:
    """Average@k above the live teacher's, on the same questions."""
    return paired_difference(result.correct, live_of(result, results).correct, result.budget.samples)


def loss_deviation(result: Result, results: list[Result], steps: int | None = None) -> float:
    """Largest relative deviation of a step's loss from the live run's, over the first steps or all."""
    pairs = zip(result.losses[:steps], live_of(result, results).losses[:steps], strict=True)
    return max(abs(own - live) / abs(live) for own, live in pairs)


def _read(path: Path) -> Result:
    values = read_json_object(path, "delete it, and the arm is trained again")
    arm, budget = LabArm(**values["arm"]), LabBudget(**values["budget"])
    return Result(**{**values, "arm": arm, "budget": budget})
