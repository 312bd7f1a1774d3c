"""What the fused loss holds in memory for a moment: the logits of a chunk of tokens, and copies of the output layer."""

from importlib.util import find_spec
from typing import Any

import torch
from transformers import AutoConfig

import qtarget as qt
from qtarget.fused.arguments import CPU_CHUNK, Call, usual_chunk
from qtarget.job.config.checked_job import Job
from qtarget.job.cost.batch_shape import BatchShape
from qtarget.job.cost.live_bytes import ACTIVATIONS, LiveBytes
from qtarget.job.cost.student_memory import weight_dtype
from qtarget.target.evidence import CallInputs
from qtarget.train.metrics import diagnostics_of_step

TRIED_VOCABULARY, TRIED_WIDTH = 1024, 8
TOKENS_TRIED = CPU_CHUNK


def loss_bytes(job: Job, shape: BatchShape, device: str) -> int:
    """Bytes that the loss holds beside its gradients.

    Args:
        device: "cpu" or "cuda".
    """
    config = AutoConfig.from_pretrained(job.model, trust_remote_code=job.args.trust_remote_code).get_text_config()
    chunk = min(usual_chunk(device, config.hidden_size, not job.model_args.use_peft), shape.rows * shape.width)
    entries, head = chunk * config.vocab_size, config.vocab_size * config.hidden_size
    forms = _forms_of_kernels(job) if device == "cuda" else None
    if forms is None:  # an output layer of narrow numbers is widened whole
        widened = 0 if weight_dtype(job) == torch.float32 else 4 * head
        return int(_numbers_per_entry(job) * 4 * entries) + widened
    operand = _operand(job)
    copied = 0 if weight_dtype(job) == operand else operand.itemsize * head
    return forms * operand.itemsize * entries + copied


def _operand(job: Job) -> torch.dtype:
    """The type in which a GPU multiplies, and in which the kernels read logits; float16 is widened there."""
    if job.args.bf16 or (not job.args.fp16 and weight_dtype(job) == torch.bfloat16):
        return torch.bfloat16
    return torch.float32


def _forms_of_kernels(job: Job) -> int | None:
    """How many numbers the Triton kernels hold for each token of a chunk and each entry of the vocabulary: the logits,
    which the gradient overwrites, of the student and of each source. None where they are not used.
    """
    plan = _tried_call(job).plan(training=True)[0]
    if find_spec("triton") is None or plan.needs_whole_target:
        return None
    from qtarget.fused.triton.triton_engine import covers

    if not covers(plan.method.pools, plan.measured, plan.tokens, plan.head):
        return None
    live = job.method.num_teachers_read if job.args.teacher_cache is None else 0
    return 1 + live + ("reference" in job.method.needs and job.args.reference_cache is None)


def _numbers_per_entry(job: Job) -> float:
    """The same of torch's operations, tried on a small vocabulary."""
    call = _tried_call(job)
    with LiveBytes() as tracker:
        qt.linear_q_target_loss(
            call.hidden,
            call.head,
            call.labels,
            call.method,
            diagnostics=call.diagnostics,
            **call.given._asdict(),
        )
    return tracker.peak[ACTIVATIONS] / (4 * TOKENS_TRIED * TRIED_VOCABULARY)


def _tried_call(job: Job) -> Call:
    method, diagnostics = job.method, diagnostics_of_step(list(job.args.diagnostics), job.method, True)
    hidden = torch.randn(TOKENS_TRIED, TRIED_WIDTH, requires_grad=True)
    head, labels = qt.Head(torch.randn(TRIED_VOCABULARY, TRIED_WIDTH)), torch.zeros(TOKENS_TRIED, dtype=torch.long)
    other: Any = qt.Dense(torch.randn(TOKENS_TRIED, TRIED_WIDTH), head)
    given = CallInputs(
        teacher=(other,) * method.num_teachers_read or None,
        reference=other if "reference" in method.needs else None,
        token_weight=torch.ones(TOKENS_TRIED) if "token_weight" in method.needs else None,
        sequence_ids=torch.zeros(TOKENS_TRIED, dtype=torch.long) if "sequence_ids" in method.needs else None,
        progress=0.5 if "progress" in method.needs else None,
        position=torch.zeros(TOKENS_TRIED) if "position" in method.needs else None,
    )
    return Call(hidden, head, labels, method, given, -100, TOKENS_TRIED, None, diagnostics)
