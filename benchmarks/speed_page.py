"""The tables and the picture of docs/maintainers/performance.md, made from the results that were kept.

python benchmarks/speed_page.py
"""

from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import verdicts
from bench import RESULTS
from loss_cost import BARE, BARE_ONEDNN
from matplotlib.axes import Axes
from peers import ELSEWHERE, OURS, PLAIN

from qtarget.disk.files import read_json_object, replace_text, replacing
from qtarget.disk.pages import filled, markdown

PAGE = Path(__file__).parents[1] / "docs" / "maintainers" / "performance.md"
PICTURE = PAGE.with_name("speed.png")
AXES = {"tokens": "tokens N", "hidden": "width H", "vocab": "vocabulary V"}
DRAWN = {"peers", "curves"}
"""Sections that the picture shows."""
PICTURE_TEXT = "Other ways to the same gradient by time and memory, and growth over N, H and V"
NOT_RECORDED = "Not recorded yet: `python benchmarks/bench.py --record` on a machine that is quiet."


def page(text: str, results: Path = RESULTS) -> str:
    """The page with its tables written anew."""
    found = read_json_object(results, "measure again") if results.is_file() else {}
    return filled(text, lambda name: _table(name, found))


def _table(name: str, found: dict) -> str:
    section, make = TABLES[name]
    if section is None:
        return make(found) if found else NOT_RECORDED
    return make(found[section]) if section in found else NOT_RECORDED


def targets(found: dict) -> str:
    rows = [
        [line.what, _figure(line.found, line.unit), f"{line.limit} {line.target:g}{line.unit}",
         _figure(line.machine, line.unit), line.processor, line.verdict]
        for line in verdicts.lines(found, verdicts.TARGETS)
    ]  # fmt: skip
    return markdown(["", "found", "target", "limit of the machine", "processor", "verdict"], rows)


def _figure(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:.3g}{unit}"


def picture(found: dict) -> str:
    """The line that shows it, once it can be drawn."""
    return f"![{PICTURE_TEXT}]({PICTURE.name})" if set(found) >= DRAWN else NOT_RECORDED


def machine(found: dict) -> str:
    """Where and when each section was taken."""
    rows = []
    for name, section in found.items():
        own = section["machine"]
        packages = ", ".join(f"{key} {own[key]}" for key in ("torch", "trl", "liger-kernel") if own[key])
        load = " to ".join(f"{value:.1f}" for value in section["load"])
        rows.append([name, section["date"], own["processor"], packages, load, f"{section['took']:.0f} s"])
    return markdown(["section", "taken on", "processor", "versions", "load", "took"], rows)


def speed(section: dict) -> str:
    ways = (OURS.name, PLAIN.name, BARE, BARE_ONEDNN)
    rows = []
    for row in section["rows"]:
        seconds = [f"{1e3 * row['seconds'][way]['cpu']:.0f}" if way in row["seconds"] else "" for way in ways]
        over = [f"{row['over'][way]['median']:.2f}x" if way in row["over"] else "" for way in (BARE, BARE_ONEDNN)]
        rows.append([row["objective"], *seconds, _spread(row["faster"]), *over])
    return markdown(["CPU ms", *ways, "plain over qtarget", "over bare", "over bare by oneDNN"], rows)


def _spread(of: dict) -> str:
    return f"{of['median']:.2f}x ({of['least']:.2f} … {of['largest']:.2f})"


def _mib(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.0f}"


def memory(section: dict) -> str:
    rows = []
    for row in section["rows"]:
        ours, plain = (row["mib"][way] for way in (OURS.name, PLAIN.name))
        share = "" if ours is None or plain is None else f"1/{plain / ours:.1f}"
        rows.append([row["objective"], _mib(ours), _mib(plain), share])
    return markdown(["MiB at the peak", OURS.name, PLAIN.name, "share"], rows)


def masked(section: dict) -> str:
    rows = [[row["objective"], _spread(row["faster"])] for row in section["rows"]]
    return markdown(["half of the tokens masked", "as fast as none masked"], rows)


def floor(section: dict) -> str:
    ways = list(section["rows"][0]["seconds"])
    rows = [
        [row["objective"], way, f"{1e3 * row['seconds'][way]['cpu']:.0f}", f"{row['slower'][way]['median']:.2f}x",
         _mib(row["transient_mib"][way])]
        for row in section["rows"] for way in ways
    ]  # fmt: skip
    return markdown(["", "way", "CPU ms", "over the default", "MiB beside the gradients"], rows)


def diagnostics(section: dict) -> str:
    names = list(dict.fromkeys(name for row in section["rows"] for name in row["times"]))
    columns = [row["objective"] for row in section["rows"]]
    rows = [[name, *(_percent(row["times"].get(name)) for row in section["rows"])] for name in names]
    return markdown(["adds to the loss", *columns], rows)


def _percent(of: dict | None) -> str:
    return "" if of is None else f"{100 * (of['median'] - 1):+.1f} %"


def curves(section: dict) -> str:
    rows = []
    for axis, name in AXES.items():
        curve = section[axis]
        for way in (OURS.name, PLAIN.name):
            ms = ", ".join(f"{1e3 * s:.0f}" for s in curve["seconds"][way])
            mib = ", ".join(_mib(value) for value in curve["mib"][way])
            slopes = [_slope(curve["slopes"][what][way]) for what in ("seconds", "mib")]
            rows.append([f"{name} = {', '.join(map(str, curve['at']))}", way, ms, slopes[0], mib, slopes[1]])
    return markdown(["over", "", "CPU ms", "power", "MiB", "power"], rows)


def _slope(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def teachers(section: dict) -> str:
    of = section["teachers"]
    rows = [
        ["CPU ms", *(f"{1e3 * s:.0f}" for s in of["seconds"][OURS.name])],
        ["over none", *(f"{ratio:.2f}x" for ratio in of["over_none"])],
    ]
    return markdown(["teachers", *map(str, of["at"])], rows)


def peers(section: dict) -> str:
    rows = []
    for name, of in section["objectives"].items():
        for way, row in of["rows"].items():
            ratio = row["over_ours"]["median"]
            rows.append([name, way, f"{1e3 * row['seconds']:.0f}", f"{ratio:.2f}x", _mib(row["mib"])])
        rows += [[name, way, f"not measured: {why}", "", ""] for way, why in of["missing"].items()]
    rows += [["", way, f"not measured: {why}", "", ""] for way, why in ELSEWHERE.items()]
    return markdown(["", "way", "CPU ms", "over qtarget", "MiB at the peak"], rows)


def step(section: dict) -> str:
    rows = [
        [name, f"{1e3 * of['cpu']:.0f}", _mib(section["mib"][name]) if name in section["mib"] else ""]
        for name, of in section["seconds"].items()
    ]
    return markdown(["trainer", "CPU ms a step", "MiB at the peak of two steps"], rows)


def step_ratios(section: dict) -> str:
    return markdown(["", "ratio"], [[name, _spread(of)] for name, of in section["ratios"].items()])


def waits(section: dict) -> str:
    rows = [
        [row["trainer"], str(row["ranks"]), *(f"{row[name]:g}" for name in ("reads", "shapes", "collectives"))]
        for row in section["rows"]
    ]
    return markdown(["trainer", "ranks", "numbers read", "shapes read", "exchanges"], rows)


TABLES: dict[str, tuple[str | None, Callable[[dict], str]]] = {
    "picture": (None, picture), "targets": (None, targets), "machine": (None, machine),
    "speed": ("speed", speed), "bf16": ("bf16", speed),
    "vocabulary": ("vocabulary", speed), "memory": ("memory", memory), "masked": ("masked", masked),
    "floor": ("floor", floor), "diagnostics": ("diagnostics", diagnostics), "curves": ("curves", curves),
    "teachers": ("curves", teachers), "peers": ("peers", peers), "step": ("step", step),
    "ratios": ("step", step_ratios), "waits": ("waits", waits),
}  # fmt: skip
"""Table of the page: the section it reads, None for all, and what writes it."""


def draw(found: dict, path: Path = PICTURE) -> None:
    """Everyone's time and memory over ours, by objective; and seconds as N, H and V grow."""
    figure, (time, memory, growth) = plt.subplots(1, 3, figsize=(14, 5), width_ratios=(3, 3, 4))
    bars = [
        (f"{way} ({name})", row["over_ours"]["median"], row["mib"] / of["rows"][OURS.name]["mib"], f"C{number}")
        for number, (name, of) in enumerate(found["peers"]["objectives"].items())
        for way, row in of["rows"].items()
        if way != OURS.name and row["mib"]
    ][::-1]
    for axes, values, title in ((time, 1, "time over qtarget's"), (memory, 2, "peak memory over qtarget's")):
        axes.barh([bar[0] for bar in bars], [bar[values] for bar in bars], color=[bar[3] for bar in bars])
        axes.axvline(1, color="black", linewidth=1)
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=7)
    memory.set_yticklabels([])
    _draw_growth(growth, found["curves"])
    figure.tight_layout()
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=110)


def _draw_growth(axes: Axes, section: dict) -> None:
    for axis, colour in zip(AXES, ("C0", "C1", "C2"), strict=True):
        curve = section[axis]
        relative = [value / curve["at"][0] for value in curve["at"]]
        for way, line in ((OURS.name, "-o"), (PLAIN.name, "--x")):
            label = f"{AXES[axis]}, {way}: power {_slope(curve['slopes']['seconds'][way])}"
            axes.plot(relative, curve["seconds"][way], line, color=colour, markersize=4, linewidth=1, label=label)
    axes.set(xscale="log", yscale="log", xlabel="times the smallest", ylabel="CPU seconds of a step of dft")
    axes.legend(fontsize=7)


if __name__ == "__main__":
    replace_text(PAGE, page(PAGE.read_text(encoding="utf-8")))
    if RESULTS.is_file() and set(results := read_json_object(RESULTS, "measure again")) >= DRAWN:
        draw(results)
