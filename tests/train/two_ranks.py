"""Runs on several gloo processes, started by `parity.launch`: `two_ranks.py REPORT METHOD...`.

The same code run in one process gives the figures to compare with.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import models
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from train import parity

import qtarget as qt
from qtarget.train import NonFiniteLossError, TargetSFTConfig, TargetSFTTrainer
from qtarget.train.forward import TargetCall, add_target_loss
from qtarget.train.reference import Snapshot

STEPS = 5


def trained(method: str, ranks: int) -> dict[str, Any]:
    """A Trainer run on a global batch of 8, and its evaluation on 3 rows, which do not divide among ranks."""
    backend = "gloo" if ranks > 1 else None
    trainer = parity.run(method, max_steps=STEPS, per_device_train_batch_size=8 // ranks, ddp_backend=backend)
    metrics = trainer.evaluate(models.prompt_completion(3, seed=9))
    weights = torch.cat([w.detach().flatten() for w in trainer.model.parameters()])
    evaluated = {name: metrics[name] for name in ("eval_loss", "eval_nll", "eval_trust")}
    return parity.history(trainer) | {"evaluated": evaluated, "weights": weights.double().norm().item()}


def sharded(method: str, layout: str, rank: int, ranks: int) -> dict[str, list[float]]:
    """Steps of plain SGD on a model under `fully_shard`, with the trainer's forward and normalisation."""
    model = models.tiny_model()
    teacher = models.tiny_model(seed=1, width=48)
    add_target_loss(model)
    snapshot = Snapshot(model, every=2)
    if ranks > 1:
        mesh = init_device_mesh("cpu", (ranks,))
        for layer in model.model.layers:
            fully_shard(layer, mesh=mesh)
        if layout == "fsdp-own":
            fully_shard(model.lm_head, mesh=mesh)
        fully_shard(model, mesh=mesh)
        assert all(isinstance(weight, DTensor) for weight in model.parameters())
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    return _steps(model, optimizer, teacher, snapshot, qt.method(method), rank, ranks)


def _steps(model, optimizer, teacher, snapshot, method: qt.Method, rank: int, ranks: int) -> dict[str, list[float]]:
    history: dict[str, list[float]] = {"loss": [], "grad_norm": []}
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(step)
        ids = torch.randint(5, models.VOCAB, (4, 9), generator=generator)
        labels = ids.clone()
        labels[0, :5], labels[2, :7] = -100, -100  # ranks see different numbers of labels
        count = (labels[:, 1:] != -100).sum()
        mine = slice(rank * 4 // ranks, (rank + 1) * 4 // ranks)
        old = snapshot.evidence({"input_ids": ids[mine]}, labels[mine]) if method.refresh_every else None
        call = TargetCall(method, _teachers(teacher, method, ids[mine]), old, num_items=count)
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


def _teachers(teacher, method: qt.Method, ids: torch.Tensor) -> tuple[qt.Dense, ...]:
    if not method.num_teachers:
        return ()
    with torch.no_grad():
        hidden = teacher.model(input_ids=ids, use_cache=False).last_hidden_state
    return (qt.Dense(hidden, qt.Head(teacher.lm_head.weight)),)


def single(method: str) -> dict[str, Any]:
    """The figures of one process."""
    return {"ddp": trained(method, 1), "fsdp": sharded(method, "", 0, 1)}


def evaluated_flat(ranks: int) -> dict[str, float]:
    """Evaluation of 3 rows laid end to end, two to a rank: the last batch holds one row again."""
    changes: dict[str, Any] = {"padding_free": True, "max_length": None, "per_device_eval_batch_size": 2}
    changes |= {"max_steps": 1, "learning_rate": 0.0, "ddp_backend": "gloo" if ranks > 1 else None}
    trainer = parity.run("sft", **changes)
    metrics = trainer.evaluate(models.prompt_completion(3, seed=9))
    return {name: metrics[name] for name in ("eval_loss", "eval_nll", "eval_entropy")}


class BrokenTeacher:
    """Says NaN about one row of rank 1 at the third step."""

    def __init__(self, rank: int):
        self.model, self.rank, self.calls = models.tiny_model(seed=1), rank, 0

    def evidence(self, inputs, labels):
        from qtarget.teacher import LiveModel

        evidence = LiveModel(self.model).evidence(inputs, labels)
        self.calls += 1
        if self.rank == 1 and self.calls >= 3:
            evidence.hidden[1] = torch.nan
        return evidence


def stopped(rank: int) -> str:
    """The error every rank raises when one rank's loss is not finite."""
    trainer = TargetSFTTrainer(
        models.tiny_model(),
        TargetSFTConfig(
            method="target-sft",
            **parity.common_args(max_steps=4, per_device_train_batch_size=2, ddp_backend="gloo"),
        ),
        train_dataset=models.prompt_completion(),
        processing_class=models.tiny_tokenizer(),
        teacher=BrokenTeacher(rank),
    )
    try:
        trainer.train()
    except NonFiniteLossError as error:
        return str(error)
    return ""


def main(report: str, *methods: str) -> None:
    torch.set_num_threads(1)
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    found: dict[str, Any] = {}
    for method in methods:
        if method == "broken":
            errors = [None] * ranks
            mine = stopped(rank)
            dist.all_gather_object(errors, mine)
            found["broken"] = errors
            continue
        if method == "flat":
            found["flat"] = evaluated_flat(ranks)
            continue
        found[method] = {"ddp": trained(method, ranks)}
        for layout in ("fsdp-root", "fsdp-own"):
            found[method][layout] = sharded(method, layout, rank, ranks)
    if rank == 0:
        Path(report).write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
