"""Runs whose output layer's work is cut over two gloo ranks, started by `parity.launch`: `REPORT WHERE FOLDER`.

The same code run in one process gives the figures to compare with.
"""

import json
import sys
from pathlib import Path
from typing import Any, Literal

import tiny_models
import torch
import torch.distributed as dist
from job.sharding_on_cpus import ShardingOnCPUs
from peft import LoraConfig
from torch import Tensor
from torch.distributed.tensor import DTensor
from train import parity
from transformers import TrainerCallback

import qtarget as qt
from qtarget.target.source_logits import dense_logits
from qtarget.teacher import LiveModel
from qtarget.train import (
    NonFiniteLossError,
    NonFiniteWeightsError,
    TargetSFTConfig,
    TargetSFTTrainer,
    check_finite_weights,
)

Where = Literal["one", "data", "fsdp", "tensor"]
"""One process; whole copies; FSDP2 through accelerate; layers cut by transformers."""
STEPS, ROWS = 3, 16
TEACHER: dict[str, Any] = {"seed": 1, "width": 48}
CASES: dict[str, dict[str, Any]] = {
    "sft": {"method": "sft"},
    "dft, tied": {"method": "dft", "tied": True},
    "kd": {"method": "kd"},
    "target-sft": {"method": "target-sft"},
    "target-sft, uneven rows": {"method": "target-sft", "vocab": tiny_models.VOCAB + 1},
    "whole cache": {"method": "target-sft", "cache": "whole"},
    "cache by mass": {"method": "target-sft", "cache": "by mass"},
    "more kept of some rows": {"method": "target-sft", "uneven": True},
    "two teachers": {"method": "target-sft", "method_kwargs": {"eta": [0.3, 0.4]}, "cache": "whole"},
    "weighted": {"method": "cft"},
    "rows laid end to end": {"method": "target-sft", "padding_free": True, "max_length": None},
    "schedule along completions": {
        "method": "target-sft",
        "method_kwargs": {"eta": {"from": 0.1, "to": 0.9, "along": "position"}},
    },
    "snapshot": {"method": "psft", "method_kwargs": {"refresh_every": 1}},
}
COPIED = {
    "reference": {"method": "sft-kl"},
    "sequences": {"method": "iw-sft"},
    "adapter": {"method": "sft-kl", "adapter": True},
}
"""Runs whose reference is the student as it was at first."""


class FirstGradient(TrainerCallback):
    """Keeps the gradient of the first step, whole, by the name of its weight."""

    def __init__(self) -> None:
        self.kept: dict[str, list[float]] = {}

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs) -> None:
        if state.global_step == 0:
            self.kept = {name: _whole(weight.grad).flatten().tolist() for name, weight in _trained(model)}


class Calls:
    """Notes the rows of the output layer that calls of the loss multiply, and for how many tokens."""

    def __init__(self) -> None:
        self.rows: set[int] = set()
        self.loss = qt.linear_q_target_loss

    def __call__(self, hidden: Tensor, head: qt.Head, *args: Any, **kwargs: Any) -> qt.LossOutput:
        self.rows.add(len(head.weight))
        return self.loss(hidden, head, *args, **kwargs)


def figures(case: dict[str, Any], where: Where, folder: Path) -> dict[str, Any]:
    """Losses, gradients, evaluation and result of a run on a global batch of 8 in two parts."""
    calls, first = Calls(), FirstGradient()
    trainer = built(case, where, folder, callbacks=[first])
    qt.linear_q_target_loss = calls  # type: ignore[assignment]
    try:
        trainer.train()
        metrics = trainer.evaluate(tiny_models.prompt_completion(3))  # which caches hold
    finally:
        qt.linear_q_target_loss = calls.loss  # type: ignore[assignment]
    weights = {name: _whole(weight).flatten().tolist() for name, weight in _trained(trainer.model)}
    names = ("eval_loss", "eval_nll", "eval_trust", "eval_entropy")
    seen = [entry["num_tokens"] for entry in trainer.state.log_history if "grad_norm" in entry]
    return parity.history(trainer) | {
        "gradients": first.kept,
        "weights": weights,
        "evaluated": {name: metrics[name] for name in names},
        "num_tokens": seen,
        "rows": sorted(calls.rows),
    }


def built(case: dict[str, Any], where: Where, folder: Path, callbacks: Any = (), **more: Any) -> TargetSFTTrainer:
    """The trainer of a case; its batch is cut over ranks that have rows of their own."""
    case, cut = dict(case), where != "one"
    settings = {name: case.pop(name, None) for name in ("cache", "tied", "vocab", "adapter", "uneven")}
    readers = 2 if where in ("data", "fsdp") else 1
    changes = {"per_device_train_batch_size": 4 // readers, "gradient_accumulation_steps": 2, "max_steps": STEPS}
    changes |= {"per_device_eval_batch_size": 2, "vocabulary_parallel": cut, **({"ddp_backend": "gloo"} if cut else {})}
    method = qt.method(case["method"], **case.get("method_kwargs", {}))
    teachers: Any = [tiny_models.tiny_model(**{**TEACHER, "seed": seed}) for seed in range(1, 1 + method.num_teachers)]
    if settings["cache"]:
        changes["teacher_cache"] = [str(folder / settings["cache"])] * len(teachers)
        teachers = None
    if settings["uneven"]:
        teachers = [KeepsMoreOfSome()]
    if where == "fsdp":
        layers = {"version": 2, "transformer_layer_cls_to_wrap": ["Qwen2DecoderLayer"]}
        changes |= {"fsdp": "full_shard", "fsdp_config": layers}
    if where == "tensor":
        changes["model_init_kwargs"] = {"dtype": "float32", "distributed_config": {"tp_size": 2}}
    torch.manual_seed(5)  # an adapter's first weights
    adapter = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    return TargetSFTTrainer(
        student(settings, where),
        TargetSFTConfig(**parity.common_args(**{**changes, **case, **more})),
        train_dataset=rows_of(method),
        processing_class=tiny_models.tiny_tokenizer(),
        teacher=teachers or None,
        peft_config=adapter if settings["adapter"] else None,
        callbacks=list(callbacks),
    )


def rows_of(method: qt.Method) -> Any:
    if "token_weight" in method.needs:
        return tiny_models.token_rows(ROWS, weights=True)
    return tiny_models.prompt_completion(ROWS)


def student(settings: dict[str, Any], where: Where) -> Any:
    """A tiny model; its folder, where transformers is to cut it as it is read."""
    model = tiny_models.tiny_model(tied=bool(settings["tied"]), vocab=settings["vocab"] or tiny_models.VOCAB)
    return str(saved(model)) if where == "tensor" else model


def saved(model: Any) -> Path:
    """A folder that rank 0 has written and all ranks read."""
    import tempfile

    made = [tempfile.mkdtemp()]
    if dist.get_rank() == 0:
        model.save_pretrained(made[0])
        tiny_models.tiny_tokenizer().save_pretrained(made[0])
    dist.broadcast_object_list(made)
    return Path(made[0])


def resumed(where: Where, folder: Path) -> dict[str, list[float]]:
    """Weights of an unbroken run, and of one that goes on from its second step."""
    out = [str(folder / f"resumed-{where}")]
    changes = {"max_steps": 4, "save_steps": 2, "save_strategy": "steps", "output_dir": out[0], "optim": "adamw_torch"}
    found = {}
    for name, start in (("unbroken", None), ("resumed", f"{out[0]}/checkpoint-2")):
        trainer = built(CASES["target-sft"], where, folder, **changes)
        trainer.train(start)
        found[name] = [value for _, weight in _trained(trainer.model) for value in _whole(weight).flatten().tolist()]
    return found


class KeepsMoreOfSome:
    """A teacher of whose likeliest tokens more are kept in some rows than in others, and so on some ranks."""

    def __init__(self) -> None:
        self.live = LiveModel(tiny_models.tiny_model(**TEACHER))

    def evidence(self, inputs: Any, labels: Any) -> qt.Sparse:
        logp = dense_logits(self.live.evidence(inputs, labels)).log_softmax(-1)
        kept = (2 + inputs["input_ids"].sum(-1) % 5)[:, None, None]  # padding is 0
        top = logp.topk(int(kept.max()), -1)
        is_empty = torch.arange(top.indices.shape[-1]) >= kept
        inside = top.values.masked_fill(is_empty, -torch.inf).exp().sum(-1)
        return qt.Sparse(top.indices.masked_fill(is_empty, -1), top.values, (1 - inside).log())


class BrokenOnOne:
    """A teacher that says NaN about the second row of rank 1."""

    def __init__(self) -> None:
        self.live = LiveModel(tiny_models.tiny_model(**TEACHER))

    def evidence(self, inputs: Any, labels: Any) -> qt.Dense:
        evidence = self.live.evidence(inputs, labels)
        if dist.get_rank() == 1:
            evidence.hidden[1] = torch.nan
        return evidence


def stopped(folder: Path) -> list[str]:
    """What each rank says of one rank's broken row."""
    trainer = built(CASES["target-sft"], "data", folder)
    trainer.teachers = (BrokenOnOne(),)
    said: Any = [None, None]
    try:
        trainer.train()
    except NonFiniteLossError as error:
        dist.all_gather_object(said, str(error))
    return said


def lost(folder: Path) -> list[str]:
    """What each rank says of a weight that is NaN in the part of rank 1 alone."""
    trainer, said = built(CASES["sft"], "tensor", folder), [None, None]
    if dist.get_rank() == 1:
        trainer.model.lm_head.weight.data.to_local()[0, 0] = torch.nan
    try:
        check_finite_weights(trainer.model)
    except NonFiniteWeightsError as error:
        dist.all_gather_object(said, str(error))
    return said  # type: ignore[return-value]


def _trained(model: Any) -> list[tuple[str, Tensor]]:
    return [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]


def _whole(tensor: Tensor) -> Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()


def main(report: str, where: Where, folder: str) -> None:
    torch.set_num_threads(1)
    if where in ("fsdp", "tensor"):
        ShardingOnCPUs(fsdp=where == "fsdp").install()
    dist.init_process_group("gloo")
    cases, place = CASES if where == "tensor" else CASES | COPIED, Path(folder)
    found: dict[str, Any] = {name: figures(case, where, place) for name, case in cases.items()}
    if where != "tensor":
        found["resumed"] = resumed(where, place)
    if where == "data":
        found["stopped"] = stopped(place)
    if where == "tensor":
        found["lost"] = lost(place)
    if dist.get_rank() == 0:
        Path(report).write_text(json.dumps(found), encoding="utf-8")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
