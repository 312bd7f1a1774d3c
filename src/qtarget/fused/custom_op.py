"""The fused loss as one operator of torch, for `torch.compile`: a compiled step goes through it without a graph break.

A graph holds tensors, numbers and strings. So a call's evidence is taken apart into these before the operator
(`apart`) and rebuilt inside it (`together`), and a method is looked up by its key (`types.LIVE`). What is computed is
`LossStep.run`, as in an eager call. The gradients it makes are outputs of the operator, which its backward scales;
for a loss per token backward calls the operator a second time, with the upstream numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from qtarget.fused.arguments import Call
from qtarget.fused.differentiation import Gradients, LossStep, made_now, narrowed, spread_out, student_dtypes
from qtarget.target.evidence import CallInputs, Dense, Evidence, Head, LabelOnly, Sparse, exact
from qtarget.target.rule import COLUMNS
from qtarget.target.types import LIVE

SCHEMA = (
    "(Tensor hidden, Tensor weight, Tensor? bias, Tensor labels, Tensor[] evidence, Tensor? upstream, str method, "
    "str kinds, float[] numbers, str diagnostics, SymInt ignore_index, SymInt? chunk_tokens, SymInt? buffer_bytes, "
    "str reduction, bool[] wanted, ScalarType? autocast) -> Tensor[]"
)
SINGLE = 4
"""Outputs before the diagnostics: value, nll, num_tokens, num_supervised, as in `StepResult`."""


class Inputs(NamedTuple):
    """The operator's arguments, as in `SCHEMA`.

    Attributes:
        evidence, kinds, numbers: see `apart`; `numbers` starts with the head's.
        upstream: like labels, what each token's gradient is multiplied by; None for 1.
        diagnostics: names, with spaces between them.
        wanted: whether hidden, weight and bias get a gradient.  autocast: the dtype it is on for, where it is.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    labels: Tensor
    evidence: list[Tensor]
    upstream: Tensor | None
    method: str
    kinds: str
    numbers: list[float]
    diagnostics: str
    ignore_index: int
    chunk_tokens: int | None
    buffer_bytes: int | None
    reduction: str
    wanted: list[bool]
    autocast: torch.dtype | None

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64 if self.hidden.dtype == torch.float64 else torch.float32

    @property
    def makes(self) -> list[bool]:
        """The gradients among the outputs."""
        return made_now(self.wanted, self.reduction, self.upstream)

    @property
    def step(self) -> LossStep:
        numbers, tensors = iter(self.numbers), iter(self.evidence)
        head = _head(self.weight, self.bias, numbers)
        given = together(self.kinds, tensors, numbers)
        limits = (self.ignore_index, self.chunk_tokens, self.buffer_bytes)
        call = Call(self.hidden, head, self.labels, LIVE[self.method], given, *limits, self.diagnostics.split())
        return LossStep(call, self.reduction, tuple(self.wanted), self.autocast)  # pyright: ignore[reportArgumentType]


def traceable(call: Call) -> bool:
    """Whether a graph can hold the call: not where vocabulary or tokens are cut over a process group, which is neither
    a tensor, a number nor a string.
    """
    sources = [s for s in (*call.given.teachers, call.given.reference) if isinstance(s, Dense)]
    heads = [call.head, *(source.head for source in sources)]
    return call.given.token_group is None and all(head.shard is None for head in heads)


def traced(step: LossStep) -> Sequence[Tensor]:
    """`StepResult.outputs` while a call is being compiled."""
    call = step.call
    kinds, tensors, numbers = apart(call.given)
    outputs = linear_q_target(
        call.hidden,
        call.head.weight,
        call.head.bias,
        call.labels,
        tensors,
        None,
        call.method.key,
        kinds,
        [*_head_numbers(call.head), *numbers],
        " ".join(call.diagnostics),
        call.ignore_index,
        call.chunk_tokens,
        call.buffer_bytes,
        step.reduction,
        list(step.wanted),
        step.autocast,
    )
    return outputs[: SINGLE + len(call.diagnostics)]


# ---- evidence, taken apart and put together


def apart(given: CallInputs) -> tuple[str, list[Tensor], list[float]]:
    """(kinds, tensors, numbers) of everything a call brought; each kind is "name:form:how many tensors"."""
    named = [("teacher", teacher) for teacher in given.teachers]
    named += [(n, getattr(given, n)) for n in ("reference", *COLUMNS)]
    kinds, tensors, numbers = [], [], []
    for name, source in named:
        if source is not None:
            form, parts, constants = _parts(source)
            kinds.append(f"{name}:{form}:{len(parts)}")
            tensors += [t.detach() for t in parts]
            numbers += constants
    return " ".join(kinds), tensors, numbers


def _parts(source: Evidence | float) -> tuple[str, list[Tensor], list[float]]:
    if isinstance(source, Dense):
        parts = [source.hidden, source.head.weight, *([] if source.head.bias is None else [source.head.bias])]
        return "dense", parts, [*_head_numbers(source.head), float(source.vocab or 0)]
    if isinstance(source, Sparse):
        parts = [source.ids, source.logprobs, source.log_tail, *([] if source.entropy is None else [source.entropy])]
        return source.tail, parts, [source.temperature]
    if isinstance(source, LabelOnly):
        return "label", [source.logprobs], []
    return "tensor", [exact(source)], []


def together(kinds: str, tensors: Iterator[Tensor], numbers: Iterator[float]) -> CallInputs:
    """What was taken apart; several teachers or one as a tuple."""
    sources: dict[str, list[Any]] = {name: [] for name in ("teacher", "reference", *COLUMNS)}
    for kind in kinds.split():
        name, form, count = kind.split(":")
        sources[name].append(_source(form, [next(tensors) for _ in range(int(count))], numbers))
    teachers = tuple(sources.pop("teacher"))
    return CallInputs(teachers or None, **{name: s[0] if s else None for name, s in sources.items()})


def _source(form: str, parts: list[Tensor], numbers: Iterator[float]) -> Any:
    if form == "dense":
        head = _head(parts[1], parts[2] if len(parts) == 3 else None, numbers)
        return Dense(parts[0], head, int(next(numbers)) or None)
    if form in ("label", "tensor"):
        return LabelOnly(parts[0]) if form == "label" else parts[0]
    entropy = parts[3] if len(parts) == 4 else None
    return Sparse(parts[0], parts[1], parts[2], entropy, tail=form, temperature=next(numbers))  # pyright: ignore


def _head_numbers(head: Head) -> list[float]:
    """Soft-cap and scale; 0 and 1 stand for none."""
    return [head.softcap or 0.0, 1.0 if head.scale is None else head.scale]


def _head(weight: Tensor, bias: Tensor | None, numbers: Iterator[float]) -> Head:
    softcap, scale = next(numbers), next(numbers)
    return Head(weight, bias, softcap or None, None if scale == 1 else scale)


# ---- the operator


def _compute(*arguments: Any) -> list[Tensor]:
    """[value, nll, num_tokens, num_supervised, *diagnostics, *gradients made]."""
    inputs = Inputs(*arguments)
    result = inputs.step.run(inputs.upstream)
    gradients = spread_out(result.gradients, result.where, inputs.hidden.shape)
    return [*result.outputs, *(g for g in gradients if g is not None)]


linear_q_target = torch.library.custom_op("qtarget::linear_q_target", _compute, mutates_args=(), schema=SCHEMA)


@linear_q_target.register_fake
def _shapes(*arguments: Any) -> list[Tensor]:
    inputs = Inputs(*arguments)
    new = lambda *shape: inputs.hidden.new_empty(shape, dtype=inputs.dtype)  # noqa: E731
    counts = [inputs.labels.new_empty((), dtype=torch.int64) for _ in range(2)]
    value = new() if inputs.reduction == "mean" else new(*inputs.labels.shape)
    diagnostics = [new(*inputs.labels.shape) for _ in inputs.diagnostics.split()]
    shapes = (inputs.hidden.shape, inputs.weight.shape, inputs.weight.shape[:1])
    return [
        value,
        new(),
        *counts,
        *diagnostics,
        *(new(*s) for s, made in zip(shapes, inputs.makes, strict=True) if made),
    ]


def _keep(ctx: Any, inputs: tuple, output: list[Tensor]) -> None:
    given = Inputs(*inputs)
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[1:])
    ctx.dtypes = student_dtypes(given.hidden, given.weight, given.bias)
    ctx.wanted, ctx.num_evidence = given.wanted, len(given.evidence)
    if given.reduction == "mean":
        ctx.again, kept = None, output[SINGLE + len(given.diagnostics.split()) :]
    else:
        ctx.again, kept = given[6:], [given.hidden, given.weight, given.bias, given.labels, *given.evidence]
    ctx.save_for_backward(*kept)


def _backward(ctx: Any, upstream: list[Tensor | None]) -> tuple:
    if torch.is_grad_enabled():
        raise RuntimeError("linear_q_target_loss has no second derivative; call q_target_loss for create_graph=True")
    gradients: Gradients = [None, None, None]
    if upstream[0] is not None:
        gradients = _scaled(ctx, upstream[0]) if ctx.again is None else _made_again(ctx, upstream[0])
    return (*narrowed(gradients, ctx.dtypes), None, [None] * ctx.num_evidence, *[None] * (len(Inputs._fields) - 5))


def _scaled(ctx: Any, upstream: Tensor) -> Gradients:
    made = iter(ctx.saved_tensors)
    return [next(made) * upstream if want else None for want in ctx.wanted]


def _made_again(ctx: Any, upstream: Tensor) -> Gradients:
    hidden, weight, bias, labels, *evidence = ctx.saved_tensors
    inputs = Inputs(hidden, weight, bias, labels, evidence, upstream, *ctx.again)._replace(diagnostics="")
    made = iter(linear_q_target(*inputs)[SINGLE:])
    return [next(made) if want else None for want in ctx.wanted]


linear_q_target.register_autograd(_backward, setup_context=_keep)
