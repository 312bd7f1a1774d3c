"""What `make bench` found beside what was to be reached: each target met, missed and by how much, or not measured."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from loss_cost import BARE, BARE_ONEDNN, FLOOR_BYTES, MIB_BYTES
from peers import OURS, PLAIN

SPEED = {"sft": 1.25, "dft": 1.25, "eaft": 1.25, "kd": 1.4, "target-sft": 1.5, "target-sft, sparse": 1.7}
BF16 = {"sft": 1.7, "dft": 1.7, "kd": 1.7}
OVER_BARE = 1.15
OVER_BETTER = {"speed": ("fp32", 1.05), "bf16": ("bf16", 1.2)}
"""Of sections in which the products are timed beside the loss: the numbers' type, and how far above the better of MKL's
and oneDNN's bare products a loss may be."""
MEMORY = {"sft": 14, "dft": 14, "eaft": 14, "kd": 18, "target-sft": 18, "target-sft, sparse": 18}
MASKED = 1.8
FLOOR_SLOWER = 1.35
STEP = {"sft over TRL nll": 1.02, "dft over sft": 1.03, "eaft over sft": 1.03}
LEAST_MIB = 0.01
"""What a tiny run's memory is taken to be at least."""
STEP_MEMORY, STEP_DIAGNOSTICS = 1.0, 0.03
WAITS = 1.0


class Line(NamedTuple):
    """A figure beside its target.

    Attributes:
        found: None where it was not measured; `why` says what kept it from that.
        limit: "at most" or "at least".
        machine: what the bare products alone would reach on the machine that it was found on, where they were timed:
            a target beyond it is missed by the machine, and not by the loss.
        processor: of that machine; "" where the figure was not measured.
    """

    what: str
    found: float | None
    limit: str
    target: float
    unit: str = "x"
    why: str = "not run"
    machine: float | None = None
    processor: str = ""

    @property
    def is_met(self) -> bool | None:
        if self.found is None:
            return None
        return self._reaches(self.found)

    @property
    def verdict(self) -> str:
        if self.found is None:
            return f"not measured: {self.why}"
        share = abs(100 * (self.found / self.target - 1))
        is_beyond = self.machine is not None and not self._reaches(self.machine)
        whose = "; the machine's bare products alone miss it" if is_beyond and not self.is_met else ""
        return f"{'met' if self.is_met else 'missed'} by {share:.0f} %{whose}"

    def _reaches(self, value: float) -> bool:
        return value <= self.target if self.limit == "at most" else value >= self.target


Sections = dict[str, dict[str, Any]]


def lines(sections: Sections, wanted: Iterable[str] | None = None) -> list[Line]:
    """The targets of some sections, by default of those that were run, in the order of the page."""
    wanted = set(sections if wanted is None else wanted)
    return [
        line._replace(processor="" if line.found is None else _processor(sections[section]))
        for section, of in TARGETS.items()
        if section in wanted
        for line in of(sections.get(section))
    ]


def _processor(section: dict[str, Any]) -> str:
    return section.get("machine", {}).get("processor", "")


def _rows(section: dict | None) -> dict[str, dict]:
    return {row["objective"]: row for row in (section or {}).get("rows", ())}


def _median(row: dict | None, *path: str) -> float | None:
    found: Any = row
    for key in path:
        found = (found or {}).get(key)
    return found and found["median"]


def _speed(section: dict | None) -> Iterator[Line]:
    rows = _rows(section)
    for name, target in SPEED.items():
        row = rows.get(name)
        yield Line(f"{name}, fp32: as fast as plain", _median(row, "faster"), "at least", target, machine=_fastest(row))
    yield from _over_better(rows, "speed", SPEED)


def _fastest(row: dict | None) -> float | None:
    """How many times as fast as plain autograd a loss would be that took the time of the better bare products."""
    seconds = (row or {}).get("seconds", {})
    bare = [seconds[way]["cpu"] for way in (BARE, BARE_ONEDNN) if way in seconds]
    return seconds[PLAIN.name]["cpu"] / min(bare) if bare and PLAIN.name in seconds else None


def _over_better(rows: dict[str, dict], section: str, names: Iterable[str]) -> Iterator[Line]:
    """Each loss over the bare products, MKL's or oneDNN's, whichever are faster there: the limit of the machine."""
    dtype, target = OVER_BETTER[section]
    for name in names:
        over = [_median(rows.get(name), "over", way) for way in (BARE, BARE_ONEDNN)]
        found = max((each for each in over if each is not None), default=None)
        yield Line(f"{name}, {dtype}: time over the better bare products", found, "at most", target)


def _bf16(section: dict | None) -> Iterator[Line]:
    rows, tiled = _rows(section), (section or {}).get("amx")
    for name, target in BF16.items():
        found = None if tiled else _median(rows.get(name), "faster")
        why = "a processor with AMX" if tiled else "not run"
        limit = None if tiled else _fastest(rows.get(name))
        yield Line(f"{name}, bf16 without AMX: as fast as plain", found, "at least", target, why=why, machine=limit)
    yield from _over_better(rows, "bf16", BF16)


def _vocabulary(section: dict | None) -> Iterator[Line]:
    rows = _rows(section)
    for way in (BARE, BARE_ONEDNN):
        for name in ("dft", "kd"):
            what = f"{name}, V=151936: time over the {way}"
            yield Line(what, _median(rows.get(name), "over", way), "at most", OVER_BARE, why="no oneDNN, or not run")


def _memory(section: dict | None) -> Iterator[Line]:
    rows = _rows(section)
    for name, target in MEMORY.items():
        mib = rows.get(name, {}).get("mib", {})
        ours, plain = mib.get(OURS.name), mib.get(PLAIN.name)
        found = None if ours is None or plain is None else plain / max(ours, LEAST_MIB)
        yield Line(f"{name}, N=4096: plain's peak memory over ours", found, "at least", target)


def _masked(section: dict | None) -> Iterator[Line]:
    rows = _rows(section)
    for name in ("sft", "dft", "kd"):
        what = f"{name}, half of the tokens masked: as fast as none masked"
        yield Line(what, _median(rows.get(name), "faster"), "at least", MASKED)


def _floor(section: dict | None) -> Iterator[Line]:
    rows = _rows(section)
    for name in ("dft", "kd"):
        row = rows.get(name)
        mib = (row or {}).get("transient_mib", {}).get("buffer_bytes")
        transient = None if mib is None else mib * MIB_BYTES / 10**6
        yield Line(f"{name}, V=151936, buffer_bytes of 80 MB: memory beside the gradients", transient, "at most",
                   FLOOR_BYTES / 10**6, " MB")  # fmt: skip
        for way, what in (("buffer_bytes", "buffer_bytes of 80 MB"), ("reduction none", "a loss per token")):
            found = _median(row, "slower", way)
            yield Line(f"{name}, V=151936, {what}: time over the default", found, "at most", FLOOR_SLOWER)


def _step(section: dict | None) -> Iterator[Line]:
    for what, target in STEP.items():
        yield Line(f"whole step: {what}", _median(section, "ratios", what), "at most", target)
    mib = (section or {}).get("mib", {})
    ours, theirs = mib.get("sft"), mib.get("TRL nll")
    found = ours / theirs if ours and theirs else None
    yield Line("whole step: peak memory of sft over TRL nll", found, "at most", STEP_MEMORY)
    found = None if section is None else 1 + section["diagnostics"]
    yield Line("whole step: the default diagnostics over none", found, "at most", 1 + STEP_DIAGNOSTICS)


def _waits(section: dict | None) -> Iterator[Line]:
    rows = {(row["trainer"], row["ranks"]): row for row in (section or {}).get("rows", ())}
    for what, name, ranks in (("numbers read", "reads", 1), ("exchanges of two ranks", "collectives", 2)):
        ours, theirs = rows.get(("sft", ranks)), rows.get(("TRL nll", ranks))
        found = ours[name] / theirs[name] if ours and theirs else None
        yield Line(f"optimizer step: {what}, sft over TRL nll", found, "at most", WAITS)


TARGETS: dict[str, Callable[[dict | None], Iterator[Line]]] = {
    "speed": _speed, "bf16": _bf16, "vocabulary": _vocabulary, "memory": _memory, "masked": _masked, "floor": _floor,
    "step": _step, "waits": _waits,
}  # fmt: skip
