"""The memory of the student's training step, rehearsed with tensors that have shapes and no numbers."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from peft import get_peft_model
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM
from trl import get_peft_config  # pyright: ignore[reportPrivateImportUsage]

from qtarget.job.config.checked_job import Job
from qtarget.job.cost.batch_shape import BatchShape
from qtarget.job.cost.live_bytes import ACTIVATIONS, GRADIENTS, LiveBytes
from qtarget.job.rows.rendering import attention_of
from qtarget.models.causal_lm import backbone_of, output_layer
from qtarget.models.named_kernels import refuse_named_kernels
from qtarget.train.build_sources import causal_lm

KEPT_OF_A_LAYER = 34
"""Numbers, in hidden states, that the backward pass needs of a layer (arXiv 2205.05198, without attention's matrix)."""
LOSS_KIND, EVIDENCE_KIND, WEIGHTS_KIND = "loss", "teacher", "weights"


class StudentMemory(NamedTuple):
    """Bytes of the student alone.

    Attributes:
        weights: of all its weights, and buffers.
        trained: numbers that are trained.  trained_bytes: of their weights.
        gradients, activations, loss, evidence: at the peak of a step, beside the weights.
        is_rough: by a rule of thumb.
    """

    parameters: int
    weights: int
    trained: int
    trained_bytes: int
    gradients: int
    activations: int
    loss: int
    evidence: int
    is_rough: bool = False


def student_memory(job: Job, shape: BatchShape, loss_bytes: int, evidence_bytes: int, device: str) -> StudentMemory:
    """The student of a run in one of its steps.

    Args:
        loss_bytes: that live while the loss is computed, beside its gradients.
        evidence_bytes: that a teacher's answer takes until the loss is computed.
        device: "cpu" or "cuda".

    A model that computes with the values of its tensors, of which here it has none, gets a rule of thumb.
    """
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        return _rehearsed(job, shape, loss_bytes, evidence_bytes, device)
    except RuntimeError:
        return _by_rule(job, shape, loss_bytes, evidence_bytes)
    finally:
        log.setLevel(before)


def _rehearsed(job: Job, shape: BatchShape, loss_bytes: int, evidence_bytes: int, device: str) -> StudentMemory:
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device(device):
        model = _student(job)
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        tracker = LiveBytes()
        tracker.count([*model.parameters(), *model.buffers()], WEIGHTS_KIND)
        tracker.watch_gradients(model)
        stored = tracker.live[WEIGHTS_KIND]
        with tracker:
            for _ in range(min(2, job.args.gradient_accumulation_steps)):
                _step(model, job, shape, tracker, loss_bytes, evidence_bytes)
    peak = tracker.peak
    return StudentMemory(
        parameters=sum(weight.numel() for weight in model.parameters()),
        weights=stored,
        trained=sum(weight.numel() for weight in weights),
        trained_bytes=sum(weight.numel() * weight.element_size() for weight in weights),
        gradients=peak[GRADIENTS],
        activations=peak[ACTIVATIONS],
        loss=peak[LOSS_KIND],
        evidence=peak[EVIDENCE_KIND],
    )


def _by_rule(job: Job, shape: BatchShape, loss_bytes: int, evidence_bytes: int) -> StudentMemory:
    """Weights and gradients counted, and 34 numbers of a hidden state kept of each layer, or with checkpointing one."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = _student(job)
        parameters = list(model.parameters())
    config: Any = causal_lm(model).config.get_text_config()
    layers, kept = config.num_hidden_layers, 1 if job.args.gradient_checkpointing else KEPT_OF_A_LAYER
    size = 2 if job.args.bf16 or job.args.fp16 else weight_dtype(job).itemsize
    numbers = shape.rows * shape.width * config.hidden_size * (layers * kept + KEPT_OF_A_LAYER)
    trained = [weight for weight in parameters if weight.requires_grad]
    trained_bytes = sum(weight.numel() * weight.element_size() for weight in trained)
    return StudentMemory(
        parameters=sum(weight.numel() for weight in parameters),
        weights=sum(weight.numel() * weight.element_size() for weight in parameters),
        trained=sum(weight.numel() for weight in trained),
        trained_bytes=trained_bytes,
        gradients=trained_bytes,
        activations=size * numbers,
        loss=loss_bytes,
        evidence=evidence_bytes,
        is_rough=True,
    )


def check_student_is_built(job: Job) -> None:
    """Refuse a model that cannot be built as the run says: its attention, and the layers that an adapter is put on.

    Raises:
        ValueError, ImportError: transformers' and peft's own.
    """
    with FakeTensorMode(allow_non_fake_inputs=True):
        _student(job)


def _student(job: Job) -> Any:
    """The model with its adapter, ready to train; no weight of it is read."""
    options, args = job.model_args, job.args
    hub = {"revision": options.model_revision, "trust_remote_code": args.trust_remote_code}
    config = AutoConfig.from_pretrained(job.model, **hub)
    attention = attention_of(job)
    refuse_named_kernels(job.model, {**hub, **attention})
    model: Any = AutoModelForCausalLM.from_config(
        config, dtype=weight_dtype(job), trust_remote_code=args.trust_remote_code, **attention
    )
    peft_config = get_peft_config(options)
    if peft_config is not None:
        with _nothing_moves():
            model = get_peft_model(model, peft_config, autocast_adapter_dtype=False)
    if args.gradient_checkpointing:
        kwargs = {"use_reentrant": False, "preserve_rng_state": False}
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=kwargs)
        if peft_config is not None:
            model.enable_input_require_grads()
    return model.train()


@contextmanager
def _nothing_moves() -> Iterator[None]:
    """peft moves every new layer to the device where it is already, and tensors without numbers cannot be moved."""
    before = nn.Module._apply
    nn.Module._apply = lambda self, *_, **__: self  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module._apply = before  # type: ignore[method-assign]


def weight_dtype(job: Job) -> torch.dtype:
    """The type in which a run loads its student: float32 unless it says otherwise, the checkpoint's own for "auto"."""
    given = job.model_args.dtype or "float32"
    if given != "auto":
        return given if isinstance(given, torch.dtype) else getattr(torch, str(given))
    found = getattr(
        AutoConfig.from_pretrained(job.model, trust_remote_code=job.args.trust_remote_code).get_text_config(),
        "dtype",
        None,
    )
    return (getattr(torch, found) if isinstance(found, str) else found) or torch.float32


def _step(model: Any, job: Job, shape: BatchShape, tracker: LiveBytes, loss_bytes: int, evidence_bytes: int) -> None:
    ids = torch.zeros(shape.rows, shape.width, dtype=torch.long)
    base = causal_lm(model)
    evidence = torch.empty(evidence_bytes, dtype=torch.uint8)
    _mark(tracker, evidence, EVIDENCE_KIND)
    with _autocast(job):
        hidden = backbone_of(base)(
            input_ids=ids, attention_mask=torch.ones_like(ids) if shape.is_padded else None, use_cache=False
        ).last_hidden_state
        weight = output_layer(base).weight
        loss = _LossShape.apply(hidden, weight, loss_bytes, tracker)
    del evidence, hidden
    loss.backward()


@contextmanager
def _autocast(job: Job) -> Iterator[None]:
    dtype = torch.bfloat16 if job.args.bf16 else torch.float16 if job.args.fp16 else None
    kind = "cuda" if torch.cuda.is_available() and not job.args.use_cpu else "cpu"
    with torch.autocast(kind, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        yield


def _mark(tracker: LiveBytes, tensor: Tensor, kind: str) -> None:
    """Count a tensor, which was just made, as of a kind of its own."""
    key = tensor.untyped_storage()._cdata
    before, size = tracker._sizes[key]
    tracker._sizes[key] = (kind, size)
    tracker.live[before] -= size
    tracker.live[kind] += size


class _LossShape(torch.autograd.Function):
    """Stands for the loss: it holds its buffers for a moment, and makes both gradients in the forward pass."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, loss_bytes: int, tracker: LiveBytes) -> Tensor:
        gradients = [torch.empty_like(hidden)]
        if weight.requires_grad:
            gradients.append(torch.empty(weight.shape, dtype=torch.float32))
        buffers = torch.empty(loss_bytes, dtype=torch.uint8)
        _mark(tracker, buffers, LOSS_KIND)
        tracker.count([buffers], LOSS_KIND)
        del buffers
        ctx.save_for_backward(*gradients)
        ctx.dtype = weight.dtype
        return torch.zeros(())

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        hidden, *of_weight = ctx.saved_tensors
        return hidden, (of_weight[0].to(ctx.dtype) if of_weight else None), None, None
