"""How far K kept tokens of a teacher are from the teacher: errors of Q and of the gradient over a large vocabulary.

No model: student and teacher share a Zipf-like base, ln of rank times an exponent that says how sharp a token is, and
each adds noise of its own. In float64, by the library's own definitions, against the dense teacher.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

import qtarget as qt
from qtarget.teacher import Keep
from qtarget.teacher.distributions import logprobs_of_logits

KS = (4, 8, 16, 32, 64, 128)
DEFAULT_K = 64
SHARPNESS = (1.4, 1.7, 2.2, 3.0)
STUDENT_SHARPNESS = 0.9
NOISE, NOISES = 0.7, (0.35, 0.7, 1.4)
CHUNK = 8
REFUSED = "renormalised, refused"
LINEAR_TAILS = ("student", "uniform", "renormalised", "sampled")
TARGETS: dict[str, tuple[qt.Method, tuple[str, ...]]] = {
    **{f"target-sft η={eta}": (qt.method("target-sft", eta=eta), ("student", REFUSED)) for eta in (0.1, 0.2, 0.5, 0.8)},
    "kd": (qt.method("kd"), LINEAR_TAILS),
    "kd-hybrid λ=0.5": (qt.method("kd-hybrid", teacher_weight=0.5), LINEAR_TAILS),
}


class Size(NamedTuple):
    """How much is drawn: tokens of each sharpness, vocabulary, and repeated draws for the bias of sampling."""

    tokens: int = 48
    vocab: int = 151936
    draws: int = 32


class Tokens(NamedTuple):
    """Some tokens. student, teacher: logits `[T, V]`. sharpness: exponent of the base."""

    student_TV: Tensor
    teacher_TV: Tensor
    labels_T: Tensor
    sharpness: float


def tokens(size: Size, noise: float = NOISE) -> Iterator[Tokens]:
    """Chunks of tokens, seeded. Labels are drawn from the base, which stands for the data."""
    generator = torch.Generator().manual_seed(0)
    rank_V = torch.arange(1, size.vocab + 1, dtype=torch.float64).log()
    for sharpness in SHARPNESS:
        for start in range(0, size.tokens, CHUNK):
            rows = min(CHUNK, size.tokens - start)
            base_V = -sharpness * rank_V
            noise_2TV = noise * torch.randn(2, rows, size.vocab, generator=generator, dtype=torch.float64)
            labels_T = torch.multinomial(base_V.softmax(-1).expand(rows, -1), 1, generator=generator).squeeze(1)
            yield Tokens(STUDENT_SHARPNESS * base_V + noise_2TV[0], base_V + noise_2TV[1], labels_T, sharpness)


def kept(some: Tokens, k: int, tail: str, seed: int = 0) -> qt.Sparse | Tensor:
    """What stands in for the teacher; logits where the library refuses to take what was kept so."""
    draws_TN = None
    if tail == "sampled":
        generator = torch.Generator().manual_seed(seed)
        draws_TN = torch.rand(len(some.labels_T), k, generator=generator, dtype=torch.float64)
    scratch = torch.empty_like(some.teacher_TV)
    keep = Keep(k, "sampled" if tail == "sampled" else "top")
    found = logprobs_of_logits(some.teacher_TV.clone(), scratch, some.labels_T, keep, draws_TN)
    sparse = qt.Sparse(found.ids.long(), found.logprobs, found.log_tail, found.entropy)
    if tail == REFUSED:
        return torch.full_like(scratch, -torch.inf).scatter_(1, sparse.ids, sparse.logprobs)
    if tail == "renormalised":
        return sparse.renormalised()
    return replace(sparse, tail={"sampled": "none"}.get(tail, tail))  # type: ignore[arg-type]


def stored(sparse: qt.Sparse) -> qt.Sparse:
    """As it comes back from a cache in float16."""
    return replace(sparse, logprobs=sparse.logprobs.half().double(), log_tail=sparse.log_tail.float().double())


class Aim(NamedTuple):
    """Q `[T, V]`, and the gradient s(p − Q) that the loss has with it."""

    q_TV: Tensor
    gradient_TV: Tensor


def aim(some: Tokens, method: qt.Method, teacher: qt.Sparse | Tensor) -> Aim:
    target = qt.target_distribution(some.student_TV, some.labels_T, method, teacher=teacher)
    return Aim(target.q, target.scale[:, None] * (some.student_TV.softmax(-1) - target.q))


class Error(NamedTuple):
    """Of some tokens `[T]`: total variation of Q; norms of the gradient's error and of the gradient itself."""

    variation_T: Tensor
    error_T: Tensor
    norm_T: Tensor


def error(found: Aim, exact: Aim) -> Error:
    difference_TV = found.gradient_TV - exact.gradient_TV
    variation_T = (found.q_TV - exact.q_TV).abs().sum(-1) / 2
    return Error(variation_T, difference_TV.norm(dim=-1), exact.gradient_TV.norm(dim=-1))


class Case(NamedTuple):
    """One line of the table. `storage`: of the log-probabilities; `k`: 0 for every token."""

    target: str
    tail: str
    k: int
    storage: str = "float64"


def cases() -> list[Case]:
    """Every target, tail and K; all tokens; and the default K as it is stored."""
    found = [Case(name, tail, k) for name, (_, tails) in TARGETS.items() for tail in tails for k in KS]
    found += [Case(name, "student", k, s) for name in TARGETS for k, s in ((0, "float64"), (DEFAULT_K, "float16"))]
    return found


def run(size: Size) -> dict:
    """The errors of all cases, captured masses, and the bias of what is sampled."""
    errors, masses, bias = defaultdict(list), defaultdict(list), defaultdict(list)
    for some in tokens(size):
        exact = {name: aim(some, method, some.teacher_TV) for name, (method, _) in TARGETS.items()}
        evidence: dict[tuple, qt.Sparse | Tensor] = {}
        for case in cases():
            key = (case.tail, case.k or size.vocab, case.storage)
            if key not in evidence:
                sparse = kept(some, key[1], case.tail)
                evidence[key] = stored(sparse) if case.storage == "float16" else sparse  # type: ignore[arg-type]
            errors[case].append(
                (some.sharpness, error(aim(some, TARGETS[case.target][0], evidence[key]), exact[case.target]))
            )
        for k in KS:
            sparse = evidence["student", k, "float64"]
            masses[k].append((some.sharpness, -torch.expm1(sparse.log_tail)))  # type: ignore[union-attr]
            bias[k].append(_of_the_mean(some, k, size.draws, exact["kd"]))
    return {
        "tokens": size._asdict() | {"sharpness": SHARPNESS, "student": STUDENT_SHARPNESS, "noise": NOISE},
        "captured": [_captured(k, parts) for k, parts in masses.items()],
        "errors": [case._asdict() | _summary(parts) for case, parts in errors.items()],
        "sampling": [_bias(k, parts, size.draws) for k, parts in bias.items()],
        "disagreement": [row for noise in NOISES for row in _disagreement(size, noise)],
    }


def _disagreement(size: Size, noise: float) -> list[dict]:
    """The default K where student and teacher are nearer to one another, or further apart, in the tail too."""
    errors, masses, distances = defaultdict(list), [], []
    for some in tokens(size._replace(tokens=max(size.tokens // 3, 1)), noise):
        sparse = kept(some, DEFAULT_K, "student")
        assert isinstance(sparse, qt.Sparse)
        masses.append(-torch.expm1(sparse.log_tail))
        teacher_TV, student_TV = some.teacher_TV.log_softmax(-1), some.student_TV.log_softmax(-1)
        distances.append((teacher_TV.exp() * (teacher_TV - student_TV)).sum(-1))
        for name, (method, _) in TARGETS.items():
            found = error(aim(some, method, sparse), aim(some, method, some.teacher_TV))
            errors[name].append((some.sharpness, found))
    of = {"noise": noise, "kl": torch.cat(distances).mean().item(), "captured": torch.cat(masses).mean().item()}
    return [{**of, "target": name} | _summary(parts) for name, parts in errors.items()]


def _of_the_mean(some: Tokens, k: int, draws: int, exact: Aim) -> Error:
    """The error of kd's mean over several samplings of the same tokens; only a bias stays."""
    few = Tokens(*(part[:2] for part in some[:3]), some.sharpness)
    aims = [aim(few, TARGETS["kd"][0], kept(few, k, "sampled", seed=1 + i)) for i in range(draws)]
    mean = Aim(sum(a.q_TV for a in aims) / draws, sum(a.gradient_TV for a in aims) / draws)
    return error(mean, Aim(*(part[:2] for part in exact)))


def _captured(k: int, parts: list[tuple[float, Tensor]]) -> dict:
    mass = torch.cat([values for _, values in parts])
    of = {s: torch.cat([values for at, values in parts if at == s]).mean().item() for s in SHARPNESS}
    return {"k": k, "mean": mass.mean().item(), "p10": mass.quantile(0.1).item(), "by_sharpness": of}


def _summary(parts: list[tuple[float, Error]]) -> dict:
    variation, off, norm = (torch.cat(column) for column in zip(*(found for _, found in parts), strict=True))
    relative = off / norm
    half_width = 1.96 * variation.std() / len(variation) ** 0.5
    of = {s: torch.cat([found.variation_T for at, found in parts if at == s]).mean().item() for s in SHARPNESS}
    return {
        "variation": {"mean": variation.mean().item(), "half_width": half_width.item(), **_quantiles(variation)},
        "gradient": {"pooled": (off.norm() / norm.norm()).item(), **_quantiles(relative)},
        "variation_by_sharpness": of,
    }


def _quantiles(values: Tensor) -> dict[str, float]:
    return {f"p{percent}": values.quantile(percent / 100).item() for percent in (50, 90)}


def _bias(k: int, parts: list[Error], draws: int) -> dict:
    variation, off, norm = (torch.cat(column) for column in zip(*parts, strict=True))
    pooled = (off.norm() / norm.norm()).item()
    return {
        "k": k,
        "draws": draws,
        "variation": variation.mean().item(),
        "gradient": pooled,
        "times_root": pooled * draws**0.5,
    }
