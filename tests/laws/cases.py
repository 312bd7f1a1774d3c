"""One row of the catalogue with everything a call may need: seeded hidden states, heads, evidence, weights,
sequences.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from laws.oracle import Row
from laws.papers import PAPERS, ROWS
from torch import Tensor

import qtarget as qt
from qtarget.target import residual, slopes, value
from qtarget.target.source_logits import head_logits

T, V, H = 22, 29, 6
IGNORED = [3, 10, 11, 19]
SCHEDULED: dict[str, tuple[str, dict[str, Any]]] = {
    "along the run": (
        "target-sft",
        {"eta": {"from": 0.2, "to": 0.8, "shape": "cosine"}, "trust": {"from": 1, "to": "p_y", "until": 0.5}},
    ),
    "along the completion": ("target-sft", {"eta": {"from": 0, "to": "teacher_p_y", "along": "position"}}),
    "where they agree": ("target-sft", {"eta": "agreement"}),
    "where the teacher is sure": (
        "target-sft",
        {"eta": {"from": 1, "to": 0.1, "along": "teacher_uncertainty"}, "teacher_temperature": 0.5},
    ),
    "two teachers": ("target-sft", {"eta": ({"from": 0.4, "to": 0.1, "along": "uncertainty"}, 0.3)}),
    "a share of the teacher": (
        "kd-hybrid",
        {"teacher_weight": {"from": 0.9, "to": 0, "along": "reference_uncertainty"}},
    ),
    "trust in the reference's labels": ("dft", {"trust": "reference_p_y"}),
}
"""Methods of the catalogue whose numbers change along the run, along a completion or from token to token."""
COMPOSED = [
    Row("composed", {"kind": "half uniform, half teacher"}),
    Row("composed", {"kind": "reverse KL"}),
    Row("composed", {"kind": "filtered student"}),
    Row("composed", {"kind": "repeated terms"}),
    Row("composed", {"kind": "away from the label"}),
    Row("composed", {"kind": "own slope"}),
    Row("composed", {"kind": "near a blend"}),
    *(Row("composed", {"kind": kind}) for kind in SCHEDULED),
]
"""Methods outside the catalogue: what a user may compose is held to the same laws."""


def composed(kind: str) -> qt.Method:
    """A user's own methods, one for each part of the algebra the catalogue uses little: mixtures, tangents,
    potentials.
    """
    if kind == "half uniform, half teacher":
        return qt.Method("half", 0.4, ((0.3, qt.Pool()), (0.3, qt.Pool(teachers=(1.0,)))), scale=1.7)
    if kind == "reverse KL":
        return qt.Method("reverse-kl", 0.0, ((1.0, residual.student()), (-1.0, residual.reverse_slope())))
    if kind == "own slope":
        hellinger = residual.along(
            qt.types.Slope("hellinger", hellinger_entries, qt.Pool(teachers=(1.0,)), of_ratio=True)
        )
        return qt.Method("hellinger", 0.6, ((0.4, qt.Pool(student=1.0)), (-0.7, hellinger)),
                         value=0.7 * value.slope_loss(hellinger) + 0.6 * value.nll())  # fmt: skip
    if kind == "near a blend":
        blend, teacher = qt.Pool(student=0.3, reference=0.3, teachers=(0.4,)), qt.Pool(teachers=(1.0,))
        terms = ((0.3, qt.Pool(student=1.0)), (0.5, teacher), (-0.4, residual.along(slopes.jensen_shannon(blend, 0.4))))
        return qt.Method("near", 0.2, terms, value=value.kl(teacher))
    if kind == "repeated terms":
        student, teacher = qt.Pool(student=1.0), qt.Pool(teachers=(1.0,))
        return qt.Method("repeated", 0.2, ((0.2, student), (0.1, teacher), (0.3, student), (0.2, teacher)))
    if kind == "away from the label":
        return qt.Method("away", -0.2, ((1.2, qt.Pool()),))
    if kind in SCHEDULED:
        name, settings = SCHEDULED[kind]
        return qt.method(name, **settings)
    likely = qt.Pool(student=1.0, potential=lambda logp, logp_y, is_label: torch.where(logp < -4, -torch.inf, 0.0))
    return qt.Method("filtered", 0.5, ((0.5, likely),))


def hellinger_entries(p: Tensor, t: Tensor, log_ratio: Tensor) -> qt.types.Entries:
    """1 − Σ √(pt)."""
    root = (p * t).sqrt()
    return qt.types.Entries(p - root, root / -2)


@dataclass(frozen=True)
class Case:
    """A row made concrete, in double precision; `seed` changes every draw."""

    row: Row
    seed: int = 0
    weighted: bool = False
    bias: bool = False
    softcap: float | None = None
    scale: float | None = None
    dtype: torch.dtype = torch.float64
    drop: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def method(self) -> qt.Method:
        return composed(**self.row.hyperparameters) if self.row.name == "composed" else self._catalogued()

    def _catalogued(self) -> qt.Method:
        return qt.method(self.row.name, **self.row.hyperparameters)

    def _draw(self, name: str, *shape: int, spread: float = 1.0) -> Tensor:
        generator = torch.Generator().manual_seed(hash_of(name) + 7919 * self.seed)
        return (spread * torch.randn(*shape, generator=generator, dtype=torch.float64)).to(self.dtype)

    def head_of(self, name: str, width: int) -> qt.Head:
        return qt.Head(self._draw(f"{name} weight", V, width))

    @cached_property
    def hidden(self) -> Tensor:
        return self._draw("hidden", T, H)

    @cached_property
    def head(self) -> qt.Head:
        bias = self._draw("bias", V) if self.bias else None
        return qt.Head(self._draw("weight", V, H), bias, self.softcap, self.scale)

    @cached_property
    def labels(self) -> Tensor:
        generator = torch.Generator().manual_seed(1 + self.seed)
        labels = torch.randint(0, V, (T,), generator=generator)
        likely = head_logits(self.hidden, self.head).argmax(-1)
        labels = torch.where(torch.rand(T, generator=generator) < 0.4, likely, labels)
        return labels.index_fill(0, torch.tensor(IGNORED), -100)

    @property
    def supervised(self) -> Tensor:
        return self.labels != -100

    @cached_property
    def evidence(self) -> dict[str, Any]:
        """Teacher and reference as `Dense`, as far as the method needs them, weights and sequences."""
        teachers = tuple(
            qt.Dense(self._draw(f"teacher {i}", T, 4 + i), self.head_of(f"teacher {i}", 4 + i))
            for i in range(self.method.num_teachers)
        )
        near = self.hidden + 0.3 * self._draw("step", T, H)
        given: dict[str, Any] = {"sequence_ids": torch.arange(T) // 6}
        if teachers:
            given["teacher"] = teachers[0] if len(teachers) == 1 else teachers
        if "reference" in self.method.needs:
            given["reference"] = qt.Dense(near, qt.Head(self.head.weight.detach()))
        if "progress" in self.method.needs:
            given["progress"] = torch.tensor(0.3, dtype=self.dtype)
        if "position" in self.method.needs:
            given["position"] = (torch.arange(T) % 6).to(self.dtype) / 5
        if self.method.signed_weights:
            given["token_weight"] = torch.tensor([-1, -2, 1, 0, 2]).to(self.dtype)[torch.arange(T) % 5]
        elif "token_weight" in self.method.needs:
            given["token_weight"] = (torch.arange(T) % 3 != 0).to(self.dtype)
        elif self.weighted:
            given["token_weight"] = (torch.arange(T) % 4).to(self.dtype) / 2
        return given

    @cached_property
    def logits(self) -> Tensor:
        return head_logits(self.hidden, self.head)

    @cached_property
    def logit_evidence(self) -> dict[str, Any]:
        """The same evidence as whole logits."""
        return {name: _logits(value) for name, value in self.evidence.items()}

    def paper_loss(self, logits: Tensor, rows: Tensor) -> Tensor:
        """The paper's own per-token loss on some tokens, token weights applied outside."""
        given = {k: _rows(v, rows) for k, v in self.logit_evidence.items()}
        given["teacher"] = as_tuple(given.get("teacher"))
        loss = PAPERS[self.row.name](logits[rows], self.labels[rows], **given, **self._in_the_paper())
        outside = given.get("token_weight") if not self.method.weight_is_trust else None
        return loss if outside is None else loss * outside

    def _in_the_paper(self) -> dict[str, Any]:
        """The hyperparameters that the paper's loss has."""
        ours = PAPERS[self.row.name].ours
        return {k: v for k, v in self.method.hyperparameters.items() if k not in ours}


def hash_of(name: str) -> int:
    """A stable number for a name (Python's own hash of strings changes between runs)."""
    return sum((i + 1) * ord(c) for i, c in enumerate(name))


def as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else () if value is None else (value,)


def _logits(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_logits(v) for v in value)
    return head_logits(value.hidden, value.head) if isinstance(value, qt.Dense) else value


def _rows(value: Any, rows: Tensor) -> Any:
    if isinstance(value, Tensor) and not value.dim():  # of the whole call
        return value
    return tuple(v[rows] for v in value) if isinstance(value, tuple) else value[rows]


def name_of(row: Row) -> str:
    """A test id: the method, and what is not its default."""
    return "-".join([row.name, *(f"{k}={v}" for k, v in row.hyperparameters.items())])


def every_row(*, catalogue_only: bool = False) -> list[Any]:
    """The rows as pytest parameters."""
    import pytest

    rows = ROWS if catalogue_only else [*ROWS, *COMPOSED]
    return [pytest.param(row, id=name_of(row)) for row in rows]
