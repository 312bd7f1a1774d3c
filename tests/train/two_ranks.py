"""Runs on several gloo processes, started by `parity.launch`: `two_ranks.py REPORT METHOD...`.

The same code run in one process gives the figures to compare with.
"""

import json
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny_models
import torch
import torch.distributed as dist
from datasets import Dataset
from peft import LoraConfig
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from train import parity
from train.test_synchronisations import waits_of
from train.test_teachers_adapter import ran, save_base_and_adapter
from transformers import TrainerCallback

import qtarget as qt
from qtarget.models.identity import tokenizer_identity
from qtarget.models.sharding import shard
from qtarget.outcomes import Interruption
from qtarget.target.source_logits import dense_logits
from qtarget.teacher import Document, Keep, LiveModel, frozen, kept_logprobs
from qtarget.teacher.cache import ByMass, CacheOrigin, plan_cache, write_cache
from qtarget.train import (
    NonFiniteLossError,
    NonFiniteWeightsError,
    TargetSFTConfig,
    TargetSFTTrainer,
    check_finite_weights,
    stop_with_checkpoint,
)
from qtarget.train.forward import TargetCall, add_target_loss
from qtarget.train.reference import Snapshot
from qtarget.train.resumption.whole_checkpoints import checkpoint_fault

STEPS = 5
CPU = torch.device("cpu")
SEEDS = {"teacher": 1, "reference": 2}


def trained(method: str, ranks: int, **changes: Any) -> dict[str, Any]:
    """A Trainer run on a global batch of 8, and its evaluation on 3 rows, which do not divide among ranks."""
    changes |= {"max_steps": STEPS, "ddp_backend": "gloo" if ranks > 1 else None}
    trainer = parity.run(method, per_device_train_batch_size=8 // ranks, **changes)
    metrics = trainer.evaluate(tiny_models.prompt_completion(3, seed=9))
    weights = torch.cat([w.detach().flatten() for w in trainer.model.parameters()])
    evaluated = {name: metrics[name] for name in ("eval_loss", "eval_nll", "eval_trust")}
    return parity.history(trainer) | {"evaluated": evaluated, "weights": weights.double().norm().item()}


def scheduled(ranks: int) -> dict[str, Any]:
    """Runs whose numbers change: with the steps, and with the loss of all ranks."""
    fast = {"start": 0.1, "step_size": 0.9, "momentum": 0.3}
    eta = {"from": 0.1, "to": 0.9, "shape": "cosine"}
    return {
        "taid": trained("taid", ranks, method_kwargs=fast),
        "target-sft": trained("target-sft", ranks, method_kwargs={"eta": eta}),
        "position": trained("target-sft", ranks, method_kwargs={"eta": {**eta, "along": "position"}}),
    }


def sharded(method: str, layout: str, rank: int, ranks: int) -> dict[str, list[float]]:
    """Steps of plain SGD on a model under `fully_shard`, teacher and reference cut up alike, with the trainer's forward
    and normalisation."""
    model = tiny_models.tiny_model()
    add_target_loss(model)
    snapshot = Snapshot(model, every=2)
    voices = {name: frozen(tiny_models.tiny_model(seed=seed, width=48), CPU) for name, seed in SEEDS.items()}
    if ranks > 1:
        for whole in (model, *voices.values()):
            cut(whole, layout)
            assert all(isinstance(weight, DTensor) for weight in whole.parameters())
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    live = {name: LiveModel(voice) for name, voice in voices.items()}
    return _steps(model, optimizer, live, snapshot, qt.method(method), rank, ranks)


def cut(model: Any, layout: str) -> None:
    """`fully_shard` on every layer, and on the rest as the layout has it."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    if layout == "fsdp-own":
        tied = model.lm_head.weight is model.model.embed_tokens.weight
        fully_shard([model.model.embed_tokens, model.lm_head] if tied else model.lm_head, mesh=mesh)
    fully_shard(model.model if layout == "fsdp-base" else model, mesh=mesh)


def _steps(model, optimizer, live, snapshot, method: qt.Method, rank: int, ranks: int) -> dict[str, list[float]]:
    history: dict[str, list[float]] = {"loss": [], "grad_norm": []}
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(step)
        ids = torch.randint(5, tiny_models.VOCAB, (4, 9), generator=generator)
        labels = ids.clone()
        labels[0, :5], labels[2, :7] = -100, -100  # ranks see different numbers of labels
        count = (labels[:, 1:] != -100).sum()
        mine = slice(rank * 4 // ranks, (rank + 1) * 4 // ranks)
        texts = {"input_ids": ids[mine]}
        teachers = (live["teacher"].evidence(texts, labels[mine]),) if method.num_teachers else ()
        reference = None
        if "reference" in method.needs:
            reference = (snapshot if method.refresh_every else live["reference"]).evidence(texts, labels[mine])
        call = TargetCall(method, teachers, reference, num_items=count)
        out = model(input_ids=ids[mine], labels=labels[mine], q_target=call)
        (out.loss * ranks).backward()
        norm = torch.nn.utils.get_total_norm([weight.grad for weight in model.parameters()])
        optimizer.step()
        optimizer.zero_grad()
        if step % 2:
            snapshot.refresh()
        loss = out.loss.detach().clone()
        if ranks > 1:
            dist.all_reduce(loss)
        history["loss"].append(loss.item())
        history["grad_norm"].append((norm.full_tensor() if isinstance(norm, DTensor) else norm).item())
    return history


def single(method: str) -> dict[str, Any]:
    """The figures of one process."""
    return {"ddp": trained(method, 1), "fsdp": sharded(method, "", 0, 1)}


def heard(rank: int) -> dict[str, float]:
    """How far a live model cut over ranks is from the whole one, by layout, the second time it is asked."""
    ids = torch.randint(5, tiny_models.VOCAB, (2, 9), generator=torch.Generator().manual_seed(rank))
    found = {}
    for tied in (False, True):
        for layout in ("fsdp-root", "fsdp-own", "fsdp-base", "ours"):
            model = frozen(tiny_models.tiny_model(seed=1, tied=tied), CPU)
            whole = model(input_ids=ids).logits
            shard(model, CPU, "fsdp") if layout == "ours" else cut(model, layout)
            assert sum(isinstance(weight, DTensor) for weight in model.parameters()) >= 24
            live = LiveModel(model)
            first, second = (live.evidence({"input_ids": ids}) for _ in range(2))
            assert layout != "fsdp-own" or first.head.weight is second.head.weight  # gathered once
            off = (dense_logits(second) - whole).abs().max()
            dist.all_reduce(off, dist.ReduceOp.MAX)
            found[f"{layout} {'tied' if tied else 'untied'}"] = off.item()
    return found


def placed(where: str | None, ranks: int) -> dict[str, Any]:
    """A Trainer run whose teacher is a path; `where` is its `device_map`."""
    folder = saved(save_teacher)
    trainer = TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(
            method="target-sft",
            teacher=str(folder),
            teacher_init_kwargs={"device_map": where} if where else None,
            **parity.common_args(max_steps=STEPS, per_device_train_batch_size=8 // ranks, **on(ranks)),
        ),
        train_dataset=tiny_models.prompt_completion(),
        processing_class=tiny_models.tiny_tokenizer(),
    )
    teacher: Any = trainer.teachers[0]
    cut_up = sum(isinstance(w, DTensor) or hasattr(w, "ds_id") for w in teacher.model.parameters())
    trainer.train()
    return parity.history(trainer) | {"cut_up": cut_up}


def with_adapter(ranks: int) -> dict[str, list[float]]:
    """A student and a teacher that are two adapters on one base."""
    folder = saved(save_base_and_adapter)
    trainer = ran(str(folder / "base"), str(folder / "adapter"), per_device_train_batch_size=8 // ranks, **on(ranks))
    return parity.history(trainer)


ZERO3 = {
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "zero_allow_untested_optimizer": True,
    "zero_optimization": {
        "stage": 3,
        "stage3_param_persistence_threshold": 0,  # or weights as small as these stay whole
        "stage3_gather_16bit_weights_on_model_save": True,
    },
}
"""DeepSpeed's own configuration, as `deepspeed:` takes it."""


def under_zero3(ranks: int) -> dict[str, Any]:
    """Students that ZeRO stage 3 cuts over the ranks: heads of their own and tied, teachers, a copied reference, an
    adapter that is switched off for the reference; a global batch of 8 in two parts."""
    changes: dict[str, Any] = {"max_steps": STEPS, "per_device_train_batch_size": 4 // ranks, **on(ranks)}
    changes |= {"gradient_accumulation_steps": 2, **({"deepspeed": ZERO3} if ranks > 1 else {})}
    found = {}
    for name, method, tied, adapter in (
        ("sft", "sft", False, False),
        ("tied", "dft", True, False),
        ("teacher", "target-sft", False, False),
        ("reference", "sft-kl", True, False),
        ("adapter", "sft-kl", False, True),
    ):
        torch.manual_seed(5)  # the adapter's first weights
        trainer = TargetSFTTrainer(
            tiny_models.tiny_model(tied=tied),
            TargetSFTConfig(method=method, **parity.common_args(**changes)),
            train_dataset=tiny_models.prompt_completion(),
            processing_class=tiny_models.tiny_tokenizer(),
            teacher=tiny_models.tiny_model(seed=1, width=48) if method == "target-sft" else None,
            peft_config=LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM") if adapter else None,
        )
        trainer.train()
        metrics = trainer.evaluate(tiny_models.prompt_completion(3, seed=9))
        kinds = {hasattr(weight, "ds_id") for weight in trainer.model.parameters()}
        found[name] = parity.history(trainer) | {"eval_nll": metrics["eval_nll"], "is_cut": kinds == {True}}
    return found


BY_MASS = ByMass(0.05, 1, 40)


def write_cache_by_mass(folder: Path) -> None:
    """What a teacher says about the rows of a run and of its evaluation, as many tokens as their mass asks for."""
    tokenizer, words = tiny_models.tiny_tokenizer(), [*tiny_models.prompt_completion(), *evaluation_rows()]
    teacher = LiveModel(frozen(tiny_models.tiny_model(seed=1, width=48), CPU))
    documents = [document_of(row, tokenizer) for row in words]
    origin = CacheOrigin(tokenizer_identity(tokenizer), "none", "none", "weights", "torch.float32", tiny_models.VOCAB)
    plan = plan_cache(documents, origin, Keep(40), by_mass=BY_MASS, storage_dtype="float32", shard_tokens=64)
    write_cache(folder, plan, lambda some: kept_logprobs(teacher, some, plan.keep, batch_tokens=256))


def evaluation_rows() -> Dataset:
    return tiny_models.prompt_completion(3, seed=9)


def document_of(row: dict[str, str], tokenizer: Any) -> Document:
    """A row as the trainer lays it out: the completion is learned, with the end behind it."""
    prompt, completion = (tokenizer(row[part])["input_ids"] for part in ("prompt", "completion"))
    completion = [*completion, tokenizer.eos_token_id]
    return Document.of(prompt + completion, [-100] * len(prompt) + completion)


def by_mass(ranks: int, follow: bool) -> dict[str, Any]:
    """A run from a cache of rows of different widths, which ranks pad each to their own."""
    folder = saved(write_cache_by_mass)
    if follow:
        (folder / "manifest.json").unlink(missing_ok=True)
        followed = {"follow_cache": True, "train_sampling_strategy": "sequential"}
    else:
        followed = {}
    changes: dict[str, Any] = {"max_steps": STEPS, "per_device_train_batch_size": 8 // ranks, **on(ranks), **followed}
    trainer = TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(method="target-sft", teacher_cache=str(folder), **parity.common_args(**changes)),
        train_dataset=tiny_models.prompt_completion(),
        processing_class=tiny_models.tiny_tokenizer(),
    )
    trainer.train()
    metrics = trainer.evaluate(evaluation_rows())
    return parity.history(trainer) | {"evaluated": {name: metrics[name] for name in ("eval_loss", "eval_nll")}}


def on(ranks: int) -> dict[str, Any]:
    return {"ddp_backend": "gloo"} if ranks > 1 else {}


def save_teacher(folder: Path) -> None:
    tiny_models.tiny_model(seed=1).save_pretrained(folder)
    tiny_models.tiny_tokenizer().save_pretrained(folder)


def saved(save: Callable[[Path], Any]) -> Path:
    """A folder that rank 0 has written and all ranks read."""
    made = [tempfile.mkdtemp()]
    if not dist.is_initialized() or dist.get_rank() == 0:
        save(Path(made[0]))
    if dist.is_initialized():
        dist.broadcast_object_list(made)
    return Path(made[0])


def evaluated_flat(ranks: int) -> dict[str, float]:
    """Evaluation of 3 rows laid end to end, two to a rank: the last batch holds one row again."""
    changes: dict[str, Any] = {"padding_free": True, "max_length": None, "per_device_eval_batch_size": 2}
    changes |= {"max_steps": 1, "learning_rate": 0.0, "ddp_backend": "gloo" if ranks > 1 else None}
    trainer = parity.run("sft", **changes)
    metrics = trainer.evaluate(tiny_models.prompt_completion(3, seed=9))
    return {name: metrics[name] for name in ("eval_loss", "eval_nll", "eval_entropy")}


class BrokenTeacher:
    """Says NaN about one row of rank 1 at the third step."""

    def __init__(self, rank: int):
        self.model, self.rank, self.calls = tiny_models.tiny_model(seed=1), rank, 0

    def evidence(self, inputs, labels):
        evidence = LiveModel(self.model).evidence(inputs, labels)
        self.calls += 1
        if self.rank == 1 and self.calls >= 3:
            evidence.hidden[1] = torch.nan
        return evidence


def stopped(rank: int, accumulation: int) -> str:
    """The error every rank raises when one rank's loss is not finite."""
    trainer = TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(
            method="target-sft",
            **parity.common_args(
                max_steps=4,
                per_device_train_batch_size=2,
                gradient_accumulation_steps=accumulation,
                ddp_backend="gloo",
            ),
        ),
        train_dataset=tiny_models.prompt_completion(),
        processing_class=tiny_models.tiny_tokenizer(),
        teacher=BrokenTeacher(rank),
    )
    try:
        trainer.train()
    except NonFiniteLossError as error:
        return str(error)
    return ""


def stopped_on_all(rank: int, ranks: int, accumulation: int = 1) -> list[str]:
    errors: Any = [None] * ranks
    dist.all_gather_object(errors, stopped(rank, accumulation))
    return errors


class BrokenGradient(TargetSFTTrainer):
    """Makes the gradient of one row's tokens NaN on rank 1 from the second step on, under a loss that is finite."""

    def row_is_broken(self) -> bool:
        return dist.get_rank() == 1 and self.state.global_step >= 1

    def plant(self, first_token: int) -> None:
        def watch(module, args, output):
            if self.row_is_broken() and output.requires_grad:
                at = (args[0][:, :1] == first_token)[..., None]
                output.register_hook(lambda grad: torch.where(at, torch.nan, grad))

        self.model.get_input_embeddings().register_forward_hook(watch)


def broken_gradient(rank: int, ranks: int) -> list[list[Any]]:
    """What each rank says, its weights, and whether a check of a weight that one rank alone lost stops both."""
    rows = [{"input_ids": [first, 40, 41], "labels": [-100, 40, 41]} for first in range(10, 26)]
    trainer = BrokenGradient(
        tiny_models.tiny_model(),
        TargetSFTConfig(
            method="sft",
            **parity.common_args(
                max_steps=3, per_device_train_batch_size=2, gradient_accumulation_steps=2, ddp_backend="gloo",
                optim="adamw_torch",
            ),
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tiny_models.tiny_tokenizer(),
    )  # fmt: skip
    seen: list[int] = []
    load = trainer.compute_loss

    def noting(model, inputs, *args, **kwargs):
        seen.append(int(inputs["input_ids"][1, 0]))
        if trainer.state.global_step == 1 and len(seen) == 4:  # the second micro-batch of the second step
            trainer.plant(seen[-1])
        return load(model, inputs, *args, **kwargs)

    trainer.compute_loss = noting
    error = ""
    try:
        trainer.train()
    except NonFiniteLossError as stopped_by:
        error = str(stopped_by)
    weights = torch.cat([w.detach().flatten() for w in trainer.model.parameters()])
    if rank == 1:
        state = trainer.optimizer.state[trainer.model.lm_head.weight]
        state["exp_avg"][0, 0] = torch.nan
    lost = ""
    try:
        check_finite_weights(trainer.model, trainer.optimizer)
    except NonFiniteWeightsError as stopped_by:
        lost = str(stopped_by)
    said: Any = [None] * ranks
    dist.all_gather_object(said, [error, weights.double().norm().item(), lost])
    return said


class SignalOnRankOne(TrainerCallback):
    """One SIGTERM to the second rank alone, in its second step, or in the evaluation after it."""

    def __init__(self, rank: int, hook: str):
        self.rank, self.is_sent = rank, False
        setattr(self, hook, self.send)

    def send(self, args, state, control, **kwargs):
        if self.rank == 1 and state.global_step == 2 and not self.is_sent:
            self.is_sent = True
            signal.raise_signal(signal.SIGTERM)


def interrupted(rank: int, ranks: int, hook: str) -> list[list[Any]]:
    """What each rank says, its exit code, and the checkpoints that are there and whole."""
    folder = saved(lambda folder: None)
    changes = {"max_steps": STEPS, "per_device_train_batch_size": 4, "ddp_backend": "gloo", "output_dir": str(folder)}
    evaluates = "steps" if hook == "on_prediction_step" else "no"
    changes |= {"eval_strategy": evaluates, "eval_steps": 2, "per_device_eval_batch_size": 1, "save_strategy": "no"}
    trainer = TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(method="sft", **parity.common_args(**changes)),
        train_dataset=tiny_models.prompt_completion(),
        eval_dataset=tiny_models.prompt_completion(8, seed=9),
        processing_class=tiny_models.tiny_tokenizer(),
        callbacks=[SignalOnRankOne(rank, hook)],
    )
    said: Any = [None] * ranks
    try:
        with stop_with_checkpoint(trainer):
            trainer.train()
    except Interruption as stop:
        dist.barrier()  # rank 0 is the last to be done: it clears up after the checkpoint
        there = sorted(each.name for each in folder.iterdir() if each.is_dir())
        mine = [str(stop).replace(str(folder), "out"), there, checkpoint_fault(folder / there[0]), stop.exit_code]
        dist.all_gather_object(said, mine)
    return said


def collectives() -> dict[int, int]:
    """Those that our code asks for in an optimizer step, by micro-step."""
    counted = waits_of("sft", ddp_backend="gloo")
    return counted.of("qtarget", *{name for _, name, *_ in counted.counts if name.startswith("c10d::")})


def of_method(method: str, rank: int, ranks: int) -> dict[str, Any]:
    layouts = {layout: sharded(method, layout, rank, ranks) for layout in ("fsdp-root", "fsdp-own")}
    return {"ddp": trained(method, ranks), **layouts}


def main(report: str, *wanted: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    others = {
        "broken": lambda: stopped_on_all(rank, ranks),
        "broken gradient": lambda: broken_gradient(rank, ranks),
        "broken in parts": lambda: stopped_on_all(rank, ranks, accumulation=2),
        "collectives": collectives,
        "interrupted": lambda: interrupted(rank, ranks, "on_step_end"),
        "interrupted in evaluation": lambda: interrupted(rank, ranks, "on_prediction_step"),
        "flat": lambda: evaluated_flat(ranks),
        "heard": lambda: heard(rank),
        "fsdp": lambda: placed("fsdp", ranks),
        "zero3": lambda: placed("zero3", ranks),
        "student under zero3": lambda: under_zero3(ranks),
        "schedules": lambda: scheduled(ranks),
        "adapter": lambda: with_adapter(ranks),
        "by mass": lambda: by_mass(ranks, follow=False),
        "by mass, followed": lambda: by_mass(ranks, follow=True),
    }
    found = {name: others[name]() if name in others else of_method(name, rank, ranks) for name in wanted}
    if rank == 0:
        Path(report).write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
