"""What the definition makes of the log-probabilities that a page stores, where it stores all of them."""

from typing import Any

import numpy as np
import torch

import qtarget as qt
from qtarget.job.inspection.inspect_job import Inspection
from qtarget.job.inspection.likeliest_tokens import Keeping

ALL = Keeping(1000, 2.0)
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "beyond-log": [{"alpha": 0.0}, {"alpha": 2.5}],
    "profit": [{"threshold": 0.02}],
    "eaft": [{"power": 2.0}, {"normalizer": 3.0}, {"normalizer": None}],
    "iw-sft": [{"temperature": 3.0}],
    "label-smoothing": [{"smoothing": 0.4}],
    "asft": [{"kl_weight": 0.0}, {"kl_weight": 1.0}],
    "gem": [{"beta": 1.6}, {"h": "logsigmoid"}, {"h": "logsigmoid", "beta": 1.0}],
    "dft": [{"trust": 0.3}, {"trust": {"from": 1, "to": "p_y", "along": "uncertainty"}}],
    "kd": [{"temperature": 2.0}, {"temperature": 0.5}, {"temperature": 2.0, "teacher_temperature": 0.7}],
    "kd-hybrid": [
        {"teacher_weight": 0.1},
        {"teacher_temperature": 0.5},
        {"teacher_weight": {"from": 0, "to": 1, "along": "reference_uncertainty"}},
    ],
    "target-sft": [
        {"eta": 0.0},
        {"eta": 0.1},
        {"eta": 1.0},
        {"eta": 0.3, "teacher_temperature": 0.5},
        {"eta": 0.3, "teacher_temperature": 2.0},
        {"eta": {"from": 0.2, "to": 0.8}, "trust": {"from": 1, "to": "p_y"}},
        {"eta": {"from": 0.1, "to": "teacher_p_y", "along": "position", "shape": "cosine", "until": 0.6}},
        {"eta": "agreement", "trust": "reference_p_y"},
        {"eta": {"from": 0.2, "to": 0.8}, "trust": {"from": 1, "to": "p_y", "until": 0.5}, "progress": 0.4},
        {"eta": {"from": 0.9, "to": 0.1, "along": "teacher_uncertainty"}},
    ],
    "taid": [{"start": 0.0}, {"start": 0.9}, {"progress": 0.25}],
    "jsd": [{"beta": 0.0}, {"beta": 0.1}, {"beta": 0.9}, {"beta": 1.0}],
    "skew-kl": [{"alpha": 0.0}, {"alpha": 0.7}],
    "skew-reverse-kl": [{"alpha": 0.0}, {"alpha": 0.7}],
    "entropy-aware-kl": [{"threshold": 0.0}, {"threshold": 5.0}],
    "symmetric-ce": [{"alpha": 1.0, "beta": 0.0}, {"log_zero": -9.2}],
    "elr": [{"weight": 0.0}, {"weight": 0.5}],
    "sed-sft": [{"strength": 1.0, "threshold": 0.3}, {"threshold": 1.0}],
    "gift": [{"beta": 2.0}, {"smoothing": 0.2}, {"floor": 1e-3}],
    "idft": [{"beta": 0.3}],
    "prift": [{"variant": "mass"}],
    "focal": [{"detached": True}],
    "beyond-log-threshold": [{"alpha": 0.0, "keep": "bottom"}],
    "entropy-selected": [{"share": 0.5}],
    "excess-loss-selected": [{"share": 0.3}],
    "confidence-penalty": [{"weight": 1.0}],
}
"""Hyperparameters besides the defaults, and the progress of the run, where it is not 0."""


def from_stored(made: Inspection, name: str, settings: dict[str, Any]) -> list[tuple]:
    """What the definition says of the stored log-probabilities, token by token; one micro-batch at a time."""
    progress = settings.get("progress", 0.0)
    given = {key: value for key, value in settings.items() if key != "progress"}
    method = made.found.open.methods[name] if not given else qt.method(name, **given)
    found = []
    groups = sorted({row.group for row in made.found.rows})
    for group in groups:
        rows = [row for row in made.found.rows if row.group == group]
        stored = {
            source: torch.cat([dense(row, source, made.found.vocabulary) for row in rows])
            for source in ("student", *made.found.sources)
        }
        evidence: dict[str, Any] = {
            "teacher": stored.get("teacher 0") if "teacher" in method.needs else None,
            "reference": stored.get("reference", stored["student"]) if "reference" in method.needs else None,
            "token_weight": torch.cat([weight_of(row) for row in rows]),
            "sequence_ids": torch.cat([torch.full((len(row.row.learned),), row.row.number) for row in rows]),
            "progress": progress,
            "position": torch.cat([torch.linspace(0, 1, len(row.row.learned)) for row in rows]),
        }
        labels = torch.cat([torch.as_tensor(row.row.ids[row.row.learned]) for row in rows])
        if name == "tvd":  # whose ties are those of the type that training computes in
            stored["student"], evidence["teacher"] = stored["student"].float(), evidence["teacher"].float()
        target = qt.target_distribution(stored["student"], labels, method, **evidence)
        found += zip(target.q, target.trust, target.scale, strict=True)
    return found


def growth_of_rounding(made: Inspection, name: str) -> list[float]:
    """By how much rounding of the stored numbers grows in a target, token by token: elr divides by 1 − ⟨p, r⟩."""
    weight = qt.method(name).hyperparameters["weight"] if name == "elr" else 0.0
    grown = []
    for row in made.found.rows:
        student = dense(row, "student", made.found.vocabulary)
        shared = (student + student if "reference" not in made.found.sources else student + dense(
            row, "reference", made.found.vocabulary)).exp().sum(-1)  # fmt: skip
        grown += (weight / (1 - shared).clamp(min=1e-4)).clamp(min=1.0).tolist()
    return grown


def weight_of(row: Any) -> torch.Tensor:
    """[T], 1 where the rows have none."""
    learned = row.row.learned
    return torch.ones(len(learned)) if row.row.weight is None else torch.as_tensor(row.row.weight[learned])


def dense(row: Any, source: str, vocabulary: int) -> torch.Tensor:
    """[T, V] of a row of which every token was kept."""
    kept = row.likeliest
    ids = torch.as_tensor(kept.ids).view(len(kept.counts), vocabulary)
    values = torch.as_tensor(kept.logprobs[source].astype(np.float32)).double().view(ids.shape)
    return torch.zeros_like(values).scatter(-1, ids, values)
