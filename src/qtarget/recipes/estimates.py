"""What a run will take: bytes and floating-point operations by formula. Estimates, not measurements."""

from dataclasses import dataclass, fields
from typing import Literal

GIB = 2**30
GPU_CHUNK_TOKENS = 1024
"""Tokens of the loss that are worked on at once on a GPU (docs/performance.md)."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a causal language model: `head_dim` of an attention head, `vocabulary` the rows of its embedding."""

    family: Literal["qwen2", "qwen3", "llama"]
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool

    @property
    def layer(self) -> int:
        """Parameters of a layer."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = 2 * self.hidden * queries + 2 * self.hidden * keys
        biases = queries + 2 * keys if self.family == "qwen2" else 0
        norms = 2 * self.hidden + (2 * self.head_dim if self.family == "qwen3" else 0)
        return attention + biases + norms + 3 * self.hidden * self.intermediate

    @property
    def embedding(self) -> int:
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        return self.layers * self.layer + self.hidden + self.embedding * (1 if self.tied else 2)


@dataclass(frozen=True)
class Workload:
    """A run as far as its cost goes. tokens: that go through the model in all, padding left out.

    Attributes:
        teacher: None for methods without one.
        rows, length: a GPU's rows at a time, and tokens in the longest of them.
        sharded: weights, gradients, optimizer and teacher are cut over the GPUs.
        flops: a second, of one GPU at best; utilization is the share of it that is reached.
    """

    student: Shape
    teacher: Shape | None
    tokens: int
    rows: int
    length: int
    gpus: int
    sharded: bool
    flops: float
    utilization: float


@dataclass(frozen=True)
class Memory:
    """Bytes on each GPU at the peak of a step.

    Attributes:
        weights: in fp32, and in bf16 the copies that autocast keeps; with sharding, two layers and the output layer.
        gradients: in fp32; those of several GPUs without sharding also lie in DDP's buckets.
        optimizer: the two moments of AdamW, in fp32.
        activations: each layer's input in bf16, kept by checkpointing, and what one layer keeps while it is gone
            through again.
        teacher: its weights in bf16, and its hidden states of the batch.
        loss: logits of a chunk in fp32 (and the teacher's), and the gradient of the output layer in fp32.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    teacher: int
    loss: int

    @property
    def total(self) -> int:
        return sum(getattr(self, f.name) for f in fields(self))


def memory(load: Workload) -> Memory:
    """What one GPU holds at the peak of a training step with gradient checkpointing and the fused loss."""
    student, share = load.student, load.gpus if load.sharded else 1
    copies = 2 * student.layer + student.embedding if load.sharded else student.parameters
    buckets = 2 if share == 1 and load.gpus > 1 else 1
    chunk = GPU_CHUNK_TOKENS * student.vocabulary * 4 * (1 if load.teacher is None else 2)
    return Memory(
        weights=4 * student.parameters // share + 2 * copies,
        gradients=4 * buckets * student.parameters // share,
        optimizer=8 * student.parameters // share,
        activations=_activations(student, load.rows * load.length),
        teacher=0 if load.teacher is None else _teacher(load.teacher, load.rows * load.length, share),
        loss=chunk + 4 * student.embedding,
    )


def _activations(shape: Shape, tokens: int) -> int:
    """bf16 numbers: an input a layer; inside one layer, norms and sums, attention's and the MLP's, four each."""
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    inside = 4 * shape.hidden + 2 * queries + 2 * keys + 4 * shape.intermediate
    return 2 * tokens * (shape.layers * shape.hidden + inside)


def _teacher(shape: Shape, tokens: int, share: int) -> int:
    """Its output layer stays whole on every GPU, also where the rest is cut."""
    whole = 2 * shape.embedding + (2 * 2 * shape.layer if share > 1 else 0)
    return 2 * (shape.parameters - shape.embedding) // share + whole + 2 * tokens * shape.hidden


def training_flops(load: Workload) -> float:
    """2 for each weight and token forward, 4 backward, 2 more as checkpointing goes forward again; 2 for the teacher.

    The output layer is gone through three times (docs/performance.md), not four; embeddings cost nothing. Attention
    adds 4·heads·head_dim for each token and token before it, forward.
    """
    student = load.student
    body = 8 * student.layers * student.layer + 6 * student.embedding + 4 * _attention(student, load.length)
    teacher = load.teacher
    beside = 0 if teacher is None else _forward(teacher, load.length)
    return float(load.tokens) * (body + beside)


def _forward(shape: Shape, length: int) -> int:
    """Operations for a token."""
    return 2 * (shape.layers * shape.layer + shape.embedding) + _attention(shape, length)


def _attention(shape: Shape, length: int) -> int:
    """Scores and mixing, forward, for a token with on average half of the sequence before it."""
    return 4 * shape.layers * shape.heads * shape.head_dim * length // 2


def training_hours(load: Workload) -> float:
    """Hours of the clock on all of its GPUs."""
    return training_flops(load) / (load.gpus * load.flops * load.utilization) / 3600
