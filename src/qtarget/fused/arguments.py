"""One call of the fused loss: its arguments, checked, and turned into the plan that the chunks follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from torch import Tensor

from qtarget.fused.chunk_size import with_fitting_chunks
from qtarget.fused.loss_plan import LossPlan
from qtarget.target.evidence import CallInputs, Evidence, Head
from qtarget.target.hyperparameters import suggestion
from qtarget.target.inputs import method_to_run, supervised_tokens
from qtarget.target.types import Method

Reduction = Literal["mean", "none"]
DIAGNOSTICS = ("trust", "scale", "p_y", "logp_y", "top1", "entropy", "target_kl", "teacher_entropy")
CPU_CHUNK, ACCELERATOR_CHUNK, LARGEST_CHUNK = 128, 1024, 4096
"""Tokens a chunk: on a CPU 4 % slower than 256, for half of the memory; an accelerator needs 1024 to keep its
multipliers fed, and gains nothing above 4096.
"""


def usual_chunk(device: str, width: int, trains_head: bool) -> int:
    """Tokens of a chunk where memory is not short.

    On an accelerator every chunk reads and writes the fp32 sum of the output layer's gradient, 4·V·H bytes, so few
    large chunks are fast: 2·H tokens, whose bf16 logits take as much memory as that sum.

    Args:
        device: its type, "cpu" or "cuda".  width: H.  trains_head: whether the output layer gets a gradient.
    """
    if device == "cpu":
        return CPU_CHUNK
    return min(max(2 * width, ACCELERATOR_CHUNK), LARGEST_CHUNK) if trains_head else ACCELERATOR_CHUNK


class Call(NamedTuple):
    """What `linear_q_target_loss` was called with, as far as it says what each token contributes."""

    hidden: Tensor
    head: Head
    labels: Tensor
    method: Method
    given: CallInputs
    ignore_index: int
    chunk_tokens: int | None
    buffer_bytes: int | None
    diagnostics: Sequence[str]

    def plan(self, training: bool, trains_head: bool = False) -> tuple[LossPlan, Tensor]:
        """The plan, and the hidden states of its tokens, [T, H]. Weightless tokens are dropped in training.

        Args:
            training: whether anything gets a gradient.  trains_head: whether the output layer's weight does.
        """
        _check_hidden(self.hidden, self.head, self.labels)
        _check_chunk(self.chunk_tokens, self.buffer_bytes)
        _check_diagnostics(self.diagnostics, self.method)
        _check_evidence(teacher=self.given.teacher, reference=self.given.reference)
        method, vocab = method_to_run(self.method, self.given), self.head.axis.total
        tokens = supervised_tokens(self.labels, method, vocab, self.given, self.ignore_index, training)
        hidden_TH = self.hidden.reshape(-1, self.hidden.shape[-1])
        if len(tokens.where) < len(hidden_TH):
            hidden_TH = hidden_TH.index_select(0, tokens.where)
        chunk_tokens = self.chunk_tokens or usual_chunk(self.hidden.device.type, self.hidden.shape[-1], trains_head)
        plan = LossPlan(method, tokens, self.head, chunk_tokens, tuple(self.diagnostics)).with_engine_for(hidden_TH)
        if self.chunk_tokens is None:
            plan = with_fitting_chunks(plan, hidden_TH, self.buffer_bytes)
        return plan, hidden_TH


def check_reduction(reduction: str, num_items: int | Tensor | None) -> None:
    """Refuses an unknown reduction, and a number of items where nothing is divided by it."""
    if reduction not in ("mean", "none"):
        raise ValueError(f'reduction="{reduction}" is neither "mean" nor "none"')
    if reduction == "none" and num_items is not None:
        raise ValueError('reduction="none" divides by nothing; leave num_items out and divide where you sum')


def _check_hidden(hidden: Tensor, head: Head, labels: Tensor) -> None:
    if hidden.shape[:-1] != labels.shape:
        raise ValueError(
            f"hidden has shape {list(hidden.shape)}, labels {list(labels.shape)}; "
            f"hidden must be {[*labels.shape, 'H']}: shift both before the call, as in hidden[:, :-1], labels[:, 1:]"
        )
    if head.weight.dim() != 2 or head.weight.shape[1] != hidden.shape[-1]:
        raise ValueError(
            f"head.weight has shape {list(head.weight.shape)}; it must be [V, {hidden.shape[-1]}] to match hidden, as "
            f"model.get_output_embeddings().weight is"
        )


def _check_chunk(chunk_tokens: int | None, buffer_bytes: int | None) -> None:
    if chunk_tokens is not None and not (isinstance(chunk_tokens, int) and chunk_tokens > 0):
        raise ValueError(f"chunk_tokens={chunk_tokens!r} must be a whole number >= 1, or None for the default")
    if chunk_tokens is not None and buffer_bytes is not None:
        raise ValueError("chunk_tokens and buffer_bytes both say how large a chunk is; give one of them")
    if buffer_bytes is not None and not buffer_bytes > 0:
        raise ValueError(f"buffer_bytes={buffer_bytes!r} must be a number of bytes > 0, as in buffer_bytes=80 * 2**20")


def _check_evidence(**sources: Evidence | tuple[Evidence, ...] | None) -> None:
    for name, source in sources.items():
        if any(isinstance(s, Tensor) for s in (source if isinstance(source, tuple) else (source,))):
            raise ValueError(
                f"{name} is a tensor of logits, which the fused loss never builds; pass {name}=qt.Dense(hidden, head), "
                f"or call q_target_loss with the student's logits"
            )


def _check_diagnostics(diagnostics: Sequence[str], method: Method) -> None:
    if isinstance(diagnostics, str):
        raise ValueError(f'diagnostics="{diagnostics}" is one word; write diagnostics=("{diagnostics}",)')
    for name in diagnostics:
        if name not in DIAGNOSTICS:
            raise ValueError(f'no diagnostic "{name}"; {suggestion(name, DIAGNOSTICS)}')
    if "teacher_entropy" in diagnostics and "teacher" not in method.needs - method.label_only:
        raise ValueError(f'"{method.name}" has no teacher distribution; leave "teacher_entropy" out of diagnostics')
