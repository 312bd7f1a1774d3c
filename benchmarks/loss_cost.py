"""Time and peak memory of the loss: sections of `make bench` that need no trainer.

    python benchmarks/loss_cost.py '[{"case": {...}, "way": "qtarget", "options": {}}]'

prints by how many MiB the peak memory of a fresh process grows in one step of each. Each section is a function of
`Sizes`.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import peers
import torch
from objectives import METHODS, Case, Inputs, bare, fused, has_onednn, small
from peers import OURS, PLAIN
from timing import Times, forked, fresh, growth_mib, has_peak, in_turn, medians, ratio
from torch import Tensor

import qtarget as qt
from qtarget.fused.arguments import DIAGNOSTICS
from qtarget.target import residual

BF16 = ("sft", "dft", "kd")
BARE, BARE_ONEDNN = "bare products", "bare products by oneDNN"
FLOOR_BYTES = 80 * 10**6
MIB_BYTES = 2**20


@dataclass(frozen=True)
class Sizes:
    """Shapes and rounds of a run; `case` is the one that most targets are about, `peers` whether to compile any."""

    case: Case
    vocabulary: Case
    long: Case
    curves: Case
    spans: tuple[float, ...] = (0.5, 1, 2)
    rounds: int = 3
    few: int = 3
    peers: bool = True


FULL = Sizes(
    Case("sft", 1024, 512, 32768), Case("sft", 512, 512, 151936), Case("sft", 4096, 512, 32768),
    Case("dft", 512, 512, 16384),
)  # fmt: skip
QUICK = Sizes(
    Case("sft", 32, 64, 512), Case("sft", 16, 64, 1024), Case("sft", 128, 64, 512), Case("dft", 32, 64, 512),
    spans=(1, 2), rounds=1, few=1, peers=False,
)  # fmt: skip


def step(way: Callable[..., Tensor], x: Inputs, **options: Any) -> None:
    """Loss and backward; a loss per token gets a number for each from upstream."""
    loss = way(x, **options)
    loss.backward(None if loss.dim() == 0 else torch.linspace(0.5, 1.5, len(loss)) / len(loss))


def timed(x: Inputs, steps: dict[str, Callable[[], Any]], rounds: int) -> Times:
    return in_turn(steps, rounds, between=x.forget)


@dataclass(frozen=True)
class Peak:
    """One step whose peak memory is asked for."""

    case: Case
    way: str = OURS.name
    options: dict[str, Any] = field(default_factory=dict)


def peaks(asked: Sequence[Peak]) -> list[float | None]:
    """MiB that each step adds at most to a fresh process, gradients included; None where the system does not say."""
    if not has_peak():
        return [None] * len(asked)
    return fresh(Path(__file__), json.dumps([asdict(one) for one in asked]))


def _measure_peak(case: dict, way: str, options: dict) -> float:
    torch.set_num_threads(1)
    peer, x = peers.named(way), Inputs(Case(**case))
    run = peer.build()
    warm = Inputs(x.case if peer.warm_whole else small(x.case))
    step(run, warm, **options)
    del warm
    x.evidence  # noqa: B018  a sparse teacher is made before the step
    return growth_mib(lambda: step(run, x, **options))


# ---- against plain autograd and the bare products


def speed(sizes: Sizes) -> dict:
    """Every objective in fp32: plain, fused and bare."""
    return {"rows": [_beside_plain(replace(sizes.case, objective=name), sizes.rounds) for name in METHODS]}


def bf16(sizes: Sizes) -> dict:
    """bf16 hidden states and output layers. `amx`: whether the processor multiplies bf16 in tiles."""
    cases = [replace(sizes.case, objective=name, dtype="bfloat16") for name in BF16]
    return {"amx": torch.cpu._is_amx_tile_supported(), "rows": [_beside_plain(case, sizes.rounds) for case in cases]}


def vocabulary(sizes: Sizes) -> dict:
    """A vocabulary of a current model: what is left above the products."""
    cases = [replace(sizes.vocabulary, objective=name) for name in ("dft", "kd")]
    return {"rows": [_beside_plain(case, sizes.few) for case in cases]}


def _beside_plain(case: Case, rounds: int) -> dict:
    x = Inputs(case)
    x.evidence  # noqa: B018
    steps = {peer.name: partial(step, peer.build(), x) for peer in (OURS, PLAIN)}
    steps[BARE] = partial(bare, x)
    if case.dtype == "float32" and has_onednn():
        steps[BARE_ONEDNN] = partial(bare, x, by_onednn=True)
    times = timed(x, steps, rounds)
    over = {name: ratio(times, OURS.name, name) for name in times if name.startswith(BARE)}
    return {**asdict(case), "seconds": medians(times), "faster": ratio(times, PLAIN.name, OURS.name), "over": over}


def masked(sizes: Sizes) -> dict:
    """Half of the labels ignored, against none."""
    rows = []
    for name in ("sft", "dft", "kd"):
        case = replace(sizes.case, objective=name)
        whole, half = Inputs(case), Inputs(replace(case, masked=0.5))
        steps = {"none": partial(step, fused, whole), "half": partial(step, fused, half)}
        times = in_turn(steps, sizes.rounds, between=lambda pair=(whole, half): [x.forget() for x in pair])
        rows.append({**asdict(case), "seconds": medians(times), "faster": ratio(times, "none", "half")})
    return {"rows": rows}


def memory(sizes: Sizes) -> dict:
    """Peak memory of one step in a fresh process, gradients included."""
    cases = [replace(sizes.long, objective=name) for name in METHODS]
    rows = [{**asdict(case), "mib": mib} for case, mib in zip(cases, _both(cases), strict=True)]
    return {"gradients_mib": gradients_mib(sizes.long), "rows": rows}


def _both(cases: Sequence[Case]) -> list[dict[str, float | None]]:
    """Peak memory of each case, ours and plain."""
    found = iter(peaks([Peak(case, way.name) for case in cases for way in (OURS, PLAIN)]))
    return [{way.name: next(found) for way in (OURS, PLAIN)} for _ in cases]


def gradients_mib(case: Case) -> float:
    """The gradients themselves, which any way leaves behind."""
    return (case.vocab + case.tokens) * case.hidden * getattr(torch, case.dtype).itemsize / MIB_BYTES


# ---- the memory floor


def floor(sizes: Sizes) -> dict:
    """The default, a chunk cut to 80 MB, and a loss per token with gradients from upstream."""
    ways: dict[str, dict] = {
        "default": {},
        "buffer_bytes": {"buffer_bytes": FLOOR_BYTES},
        "reduction none": {"reduction": "none"},
    }
    rows = []
    for name in ("dft", "kd"):
        case = replace(sizes.vocabulary, objective=name)
        x = Inputs(case)
        times = timed(x, {way: partial(step, fused, x, **options) for way, options in ways.items()}, sizes.few)
        grown = dict(zip(ways, peaks([Peak(case, options=options) for options in ways.values()]), strict=True))
        transient = {way: None if mib is None else mib - gradients_mib(case) for way, mib in grown.items()}
        slower = {way: ratio(times, way, "default") for way in ways}
        rows.append({**asdict(case), "seconds": medians(times), "slower": slower, "transient_mib": transient})
    return {"buffer_bytes": FLOOR_BYTES, "rows": rows}


# ---- diagnostics


def diagnostics(sizes: Sizes) -> dict:
    """What each diagnostic adds to a step of the loss."""
    rows = []
    for name in ("dft", "target-sft"):
        x = Inputs(replace(sizes.case, objective=name))
        asked: dict[str, tuple[str, ...]] = {"none": ()}
        asked |= {d: (d,) for d in DIAGNOSTICS if x.teachers or d != "teacher_entropy"}
        asked["all"] = tuple(asked)[1:]
        times = timed(x, {d: partial(step, fused, x, diagnostics=of) for d, of in asked.items()}, sizes.few)
        costs = {d: ratio(times, d, "none") for d in asked if d != "none"}
        rows.append({**asdict(x.case), "seconds": medians(times), "times": costs})
    return {"rows": rows}


# ---- growth


def curves(sizes: Sizes) -> dict:
    """Seconds and memory over tokens, width, vocabulary and number of teachers, with slopes where they are powers."""
    found = {}
    for axis in ("tokens", "hidden", "vocab"):
        base = getattr(sizes.curves, axis)
        points = [replace(sizes.curves, **{axis: int(base * factor)}) for factor in sizes.spans]
        found[axis] = _curve(axis, points, sizes.few)
    found["teachers"] = _teachers(sizes)
    return found


def _curve(axis: str, cases: Sequence[Case], rounds: int) -> dict:
    xs = [Inputs(case) for case in cases]
    at = [getattr(case, axis) for case in cases]
    steps = {
        f"{way.name} {n}": partial(step, way.build(), x) for n, x in zip(at, xs, strict=True) for way in (OURS, PLAIN)
    }
    times = medians(in_turn(steps, rounds, between=lambda: [x.forget() for x in xs]))
    seconds = {way.name: [times[f"{way.name} {n}"]["cpu"] for n in at] for way in (OURS, PLAIN)}
    both = _both(cases)
    mib = {way.name: [of[way.name] for of in both] for way in (OURS, PLAIN)}
    found = {"seconds": seconds, "mib": mib}
    slopes = {what: {name: slope(at, of) for name, of in by.items()} for what, by in found.items()}
    return {"at": at, **found, "slopes": slopes}


def slope(at: Sequence[float], found: Sequence[float | None]) -> float | None:
    """The power of `at` that `found` grows with: least squares through the logarithms."""
    if not all(found):
        return None
    x, y = (torch.tensor(values, dtype=torch.float64).log() for values in (at, found))
    x = x - x.mean()
    return float((x * y).sum() / (x * x).sum())


def _teachers(sizes: Sizes) -> dict:
    """p_y on the label and the rest to as many teachers as there are, in equal shares; none is dft."""
    numbers = (0, 1, 2, 3)
    xs = [Inputs(replace(sizes.curves, objective="kd", teachers=n)) for n in numbers]
    steps = {str(n): partial(step, fused, x, method=mixture(n)) for n, x in zip(numbers, xs, strict=True)}
    times = medians(in_turn(steps, sizes.few, between=lambda: [x.forget() for x in xs]))
    seconds = [times[str(n)]["cpu"] for n in numbers]
    return {"at": numbers, "seconds": {OURS.name: seconds}, "over_none": [s / seconds[0] for s in seconds]}


def mixture(teachers: int) -> qt.Method:
    """γ = p_y, the rest to the mean of the teachers."""
    if not teachers:
        return METHODS["dft"]()
    dft = METHODS["dft"]()
    return qt.Method(
        f"{teachers} teachers", dft.trust, residual.teachers([(1 - dft.trust) * (1 / teachers)] * teachers)
    )


# ---- peers


def beside_peers(sizes: Sizes) -> dict:
    """Everyone who computes sft, dft or kd, in turn, and the memory of each."""
    found = {name: _beside(replace(sizes.case, objective=name), sizes) for name in ("sft", "dft", "kd")}
    return {"elsewhere": peers.ELSEWHERE, "objectives": found}


def _beside(case: Case, sizes: Sizes) -> dict:
    everyone = [peer for peer in peers.of(case.objective) if sizes.peers or not peer.warm_whole]
    missing = {peer.name: why for peer in everyone if (why := peer.missing())}
    here = [peer for peer in everyone if peer.name not in missing]
    x = Inputs(case)
    quick = {peer.name: partial(step, peer.build(), x) for peer in here if not peer.slow}
    times = timed(x, quick, max(1, sizes.few - 1))
    rows = {name: _row(times, name) for name in quick}
    for peer in (peer for peer in here if peer.slow):
        alone = timed(x, {OURS.name: quick[OURS.name], peer.name: partial(step, peer.build(), x)}, 1)
        rows[peer.name] = _row(alone, peer.name)
    for peer, mib in zip(here, peaks([Peak(case, peer.name) for peer in here]), strict=True):
        rows[peer.name]["mib"] = mib
    return {**asdict(case), "rows": rows, "missing": missing}


def _row(times: Times, name: str) -> dict:
    return {"seconds": medians(times)[name]["cpu"], "over_ours": ratio(times, name, OURS.name)}


SECTIONS: dict[str, Callable[[Sizes], dict]] = {
    "speed": speed, "bf16": bf16, "vocabulary": vocabulary, "masked": masked, "memory": memory, "floor": floor,
    "diagnostics": diagnostics, "curves": curves, "peers": beside_peers,
}  # fmt: skip

if __name__ == "__main__":
    print(json.dumps([forked(partial(_measure_peak, **one)) for one in json.loads(sys.argv[1])]))
