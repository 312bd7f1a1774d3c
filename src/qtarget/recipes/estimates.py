"""Estimates of what training and evaluation take, by formula, not measured: bytes on each GPU, operations, hours."""

from dataclasses import dataclass, fields
from typing import Literal

from qtarget.fused.arguments import usual_chunk

GIB = 2**30


@dataclass(frozen=True)
class Shape:
    """Sizes of a causal language model.

    Attributes:
        head_dim: of an attention head.
        vocabulary: rows of the embedding.
        tied: the output layer is the embedding.
    """

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
        """Parameters of one layer."""
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
    """What decides the cost of a run.

    Attributes:
        teacher: None for methods without one.
        tokens: that go through the model in the whole run, without padding.
        rows, length: rows that a GPU works on at a time, and tokens in the longest of them.
        sharded: weights, gradients, optimizer and teacher are spread over the GPUs (FSDP2).
        flops: floating-point operations a second, the peak of one GPU.
        utilization: share of that peak that is reached.
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
class GenerationLoad:
    """What decides the hours of an evaluation.

    Attributes:
        answers: to all questions; length: tokens of the longest answer.
        at_once: answers that are written together.
        layer_seconds: the least that a layer takes for one more token of each, by what launching its work costs.
        bandwidth: bytes of memory that are reached in a second.
    """

    model: Shape
    answers: int
    length: int
    at_once: int
    layer_seconds: float
    bandwidth: float


@dataclass(frozen=True)
class Memory:
    """Bytes on each GPU at the peak of a step.

    Attributes:
        weights: in fp32, and the bf16 copies that autocast keeps (with sharding, of two layers and the output layer).
        gradients: in fp32; on several GPUs without sharding a second time, in DDP's buckets.
        optimizer: the two moments of AdamW, in fp32.
        activations: in bf16, the input of every layer, which checkpointing keeps, and the inside of the one layer that
            is being recomputed.
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
    chunk = (
        usual_chunk("cuda", student.hidden, trains_head=True)
        * student.vocabulary
        * 4
        * (1 if load.teacher is None else 2)
    )
    return Memory(
        weights=4 * student.parameters // share + 2 * copies,
        gradients=4 * buckets * student.parameters // share,
        optimizer=8 * student.parameters // share,
        activations=_activations(student, load.rows * load.length),
        teacher=0 if load.teacher is None else _teacher(load.teacher, load.rows * load.length, share),
        loss=chunk + 4 * student.embedding,
    )


def _activations(shape: Shape, tokens: int) -> int:
    """Two bytes for each number: the input of every layer, and the numbers inside one layer."""
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    inside = 4 * shape.hidden + 2 * queries + 2 * keys + 4 * shape.intermediate
    return 2 * tokens * (shape.layers * shape.hidden + inside)


def _teacher(shape: Shape, tokens: int, share: int) -> int:
    """Weights and hidden states; the output layer is whole on every GPU even where the rest is sharded."""
    whole = 2 * shape.embedding + (2 * 2 * shape.layer if share > 1 else 0)
    return 2 * (shape.parameters - shape.embedding) // share + whole + 2 * tokens * shape.hidden


def training_flops(load: Workload) -> float:
    """Operations of the whole run: for each weight and token 2 forward, 4 backward, 2 to recompute, 2 by the teacher.

    The output layer takes three products (docs/maintainers/performance.md), not four; embeddings cost nothing.
    Attention adds 4·heads·head_dim for each token and token before it, forward.
    """
    student = load.student
    body = 8 * student.layers * student.layer + 6 * student.embedding + 4 * _attention(student, load.length)
    teacher = load.teacher
    of_teacher = 0 if teacher is None else _forward(teacher, load.length)
    return float(load.tokens) * (body + of_teacher)


def _forward(shape: Shape, length: int) -> int:
    """Operations of a forward pass, for one token."""
    return 2 * (shape.layers * shape.layer + shape.embedding) + _attention(shape, length)


def _attention(shape: Shape, length: int) -> int:
    """Operations of attention forward, for one token, which on average has half of the sequence before it."""
    return 4 * shape.layers * shape.heads * shape.head_dim * length // 2


def training_hours(load: Workload) -> float:
    """Hours that the run takes on its GPUs together."""
    return training_flops(load) / (load.gpus * load.flops * load.utilization) / 3600


def generation_hours(load: GenerationLoad) -> float:
    """Hours of one GPU to write the answers, were each as long as it may be.

    One more token of every answer reads the weights in bf16 and the keys and values so far (half of the longest answer,
    in the mean), or takes as long as its launches. Reading the questions is left out.
    """
    model = load.model
    kept = 2 * 2 * model.layers * model.kv_heads * model.head_dim * load.at_once * load.length // 2
    read = (2 * (model.layers * model.layer + model.embedding) + kept) / load.bandwidth
    step = max(read, load.layer_seconds * model.layers)
    return load.answers / load.at_once * load.length * step / 3600
