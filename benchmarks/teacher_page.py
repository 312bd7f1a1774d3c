"""The tables of docs/teacher-caches.md, written from the results that were kept.

python benchmarks/teacher_page.py
"""

from collections.abc import Callable
from pathlib import Path

import teacher_cost
import teacher_lab
import teacher_quality
from teacher_caches import RESULTS, target_of, teacher_of

from qtarget.disk.files import read_json_object, replace_text
from qtarget.disk.pages import filled, markdown

PAGE = Path(__file__).parents[1] / "docs" / "teacher-caches.md"
KS = teacher_quality.KS
FIXED = "K = 64"
"""The default, beside which others are held."""


def page(text: str, results: Path = RESULTS) -> str:
    """The page with its tables written anew."""
    return filled(text, lambda name: TABLES[name](results))


def captured(results: Path) -> str:
    found = _quality(results)
    sharpness = [str(s) for s in found["tokens"]["sharpness"]]
    rows = [
        ["all tokens", *(f"{row['mean']:.3f}" for row in found["captured"])],
        ["the tenth that has least", *(f"under {row['p10']:.3f}" for row in found["captured"])],
        *(["exponent " + s, *(f"{row['by_sharpness'][s]:.3f}" for row in found["captured"])] for s in sharpness),
    ]
    return markdown(["teacher's mass on its K tokens", *(f"K={k}" for k in KS)], rows)


def variation(results: Path) -> str:
    return _errors(results, lambda e: f"{e['variation']['mean']:.4f}")


def gradient(results: Path) -> str:
    return _errors(results, lambda e: f"{e['gradient']['pooled']:.4f}")


def _errors(results: Path, cell: Callable[[dict], str]) -> str:
    by = {(e["target"], e["tail"], e["k"], e["storage"]): e for e in _quality(results)["errors"]}
    rows = [
        [target, tail, *(cell(by[target, tail, k, "float64"]) for k in KS)]
        for target, (_, tails) in teacher_quality.TARGETS.items()
        for tail in tails
    ]
    return markdown(["target", "tail", *(f"K={k}" for k in KS)], rows)


def default(results: Path) -> str:
    """The default K: spread over tokens, what float16 adds, and all tokens."""
    k, rows = teacher_quality.DEFAULT_K, []
    by = {(e["target"], e["tail"], e["k"], e["storage"]): e for e in _quality(results)["errors"]}
    for target in teacher_quality.TARGETS:
        own, half, every = (by[target, "student", *key] for key in ((k, "float64"), (k, "float16"), (0, "float64")))
        of = own["variation"]
        mean = f"{of['mean']:.4f} ± {of['half_width']:.4f}"
        last = (f"{half['variation']['mean']:.4f}", f"{every['variation']['mean']:.0e}")
        rows.append([target, mean, f"{of['p50']:.4f}", f"{of['p90']:.4f}", *last])
    columns = ["target", f"K={k}, mean with 95 %", "median", "90th percentile", "mean, as stored in float16"]
    return markdown([*columns, "mean, all tokens kept"], rows)


def disagreement(results: Path) -> str:
    found = _quality(results)["disagreement"]
    noises = sorted({row["noise"] for row in found})
    first = {noise: next(row for row in found if row["noise"] == noise) for noise in noises}
    columns = [f"noise {n}: KL {first[n]['kl']:.2f} nats, mass {first[n]['captured']:.3f}" for n in noises]
    by = {(row["target"], row["noise"]): f"{row['variation']['mean']:.4f}" for row in found}
    rows = [[target, *(by[target, noise] for noise in noises)] for target in teacher_quality.TARGETS]
    return markdown(["target", *columns], rows)


def sampling(results: Path) -> str:
    found = _quality(results)
    one = {e["k"]: e for e in found["errors"] if (e["target"], e["tail"]) == ("kd", "sampled")}
    many = found["sampling"][0]["draws"]
    rows = [
        ["one sampling", *(f"{one[k]['gradient']['pooled']:.3f}" for k in KS)],
        [f"mean of {many} samplings", *(f"{row['gradient']:.3f}" for row in found["sampling"])],
        [f"the same, times √{many}", *(f"{row['times_root']:.3f}" for row in found["sampling"])],
    ]
    return markdown(["error of kd's gradient", *(f"K={k} draws" for k in KS)], rows)


def lab(results: Path) -> str:
    found, rows = _in_order(teacher_lab.read(results / "teacher_lab" / "weak-operator")), []
    for result in found:
        gap, is_other = teacher_lab.against_live(result, found), result.arm.order
        off = [f"{teacher_lab.loss_deviation(result, found, steps):.0e}" for steps in (10, None)]
        paired = f"{100 * gap.mean:+.1f} ({100 * gap.low:+.1f} … {100 * gap.high:+.1f})"
        is_live = teacher_of(result) == "live"
        cells = [""] * 3 if is_live else [paired, *(off if not is_other else ["", ""])]
        rows.append([target_of(result), teacher_of(result), f"{100 * result.mean:.1f}", *cells])
    columns = ["target", "teacher", "Average@16", "minus live, with 95 %", "loss of steps 1 to 10", "of all steps"]
    return markdown(columns, rows)


def _in_order(results: list[teacher_lab.Result]) -> list[teacher_lab.Result]:
    order = list(teacher_lab.arms())
    return sorted(results, key=lambda result: order.index(result.arm))


def costs(results: Path) -> str:
    """What `make bench-teacher` recorded, beside its targets."""
    saved = results / "teacher_cost.json"
    if not saved.is_file():
        return "Not recorded yet: `python benchmarks/teacher_caches.py --record` on a machine that is quiet."
    rows = [
        [line.what, f"{line.found:.4g}{line.unit}", f"{line.limit} {line.target:g}{line.unit}", _verdict(line)]
        for line in teacher_cost.lines(read_json_object(saved, "measure again"))
    ]
    return markdown(["cost", "found", "target", "margin"], rows)


def _verdict(line: teacher_cost.Line) -> str:
    return f"{'met' if line.is_met else 'missed'} by {abs(100 * line.margin):.1f} %"


def solutions(results: Path) -> str:
    return _layouts(results, "solutions")


def prose(results: Path) -> str:
    return _layouts(results, "prose")


def _layouts(results: Path, text: str) -> str:
    """What each layout takes and loses on a real model's text, and how long reading it takes."""
    found = _real(results)["texts"][text]
    rows = []
    for row, read in zip(found["layouts"], found["reading"], strict=True):
        errors = [row["errors"][name] for name in ("target-sft η=0.5", "kd")]
        cells = [f"{e['variation']:.4f}, {100 * e['gradient']:.1f} %" for e in errors]
        kept = [f"{row['kept']:.1f}", f"{row['bytes_per_token']:.0f}", f"{row['left_out']:.4f}"]
        rows.append([row["layout"], *kept, *cells, f"{read['ms']:.3f}", f"{read['least_ms']:.3f}"])
    columns = ["layout", "kept", "bytes a token", "mass left out", "target-sft η=0.5: Q, gradient", "kd: Q, gradient"]
    return markdown([*columns, "ms for 256 tokens", "of them the machine's"], rows)


def texts(results: Path) -> str:
    """What the two texts were measured with, in a sentence."""
    found = _real(results)
    names, machine = found["models"], found["machine"]
    count = "; ".join(
        f"*{name}*: {text['tokens']:,} tokens in {text['documents']} documents, the teacher's entropy "
        f"{text['entropy']:.2f} nats, errors at {text['measured']} of them"
        for name, text in found["texts"].items()
    )
    return (
        f"Student {names['student']}, teacher {names['teacher']}, V = {names['vocabulary']}. {count}.\n"
        f"{machine['processor']}, one thread, in turns, medians; {machine['load']:.1f} other processes wanted its two "
        "cores meanwhile, so milliseconds are more than a quiet machine's."
    )


def aims(results: Path) -> str:
    """Half the bytes at the same error, and how fast reading is, beside what was aimed at."""
    found, rows = _real(results)["texts"], []
    for name, text in found.items():
        same = cheapest_at_the_error(text["layouts"], FIXED)
        usual = next(row for row in text["layouts"] if row["layout"] == FIXED)
        share = teacher_cost.Line("", same["bytes_per_token"] / usual["bytes_per_token"], "at most", 0.5, "x")
        rows.append([f"bytes at the errors of {FIXED}, {name}", same["layout"], *_beside(share), ""])
    for layout in (FIXED, f"{FIXED}, packed", "ε = 0.003"):
        for name, text in found.items():
            read = next(row for row in text["reading"] if row["layout"] == layout)
            line = teacher_cost.Line("", read["ms"], "at most", 0.1, " ms")
            rows.append([f"reading 256 tokens, {name}", layout, *_beside(line), f"{read['least_ms']:.3f} ms"])
    return markdown(["aim", "layout", "found", "target", "margin", "the machine's part"], rows)


def _beside(line: teacher_cost.Line) -> list[str]:
    return [f"{line.found:.2g}{line.unit}", f"{line.limit} {line.target:g}{line.unit}", _verdict(line)]


def cheapest_at_the_error(rows: list[dict], usual: str) -> dict:
    """The layout of fewest bytes of which no error is more than 1 % above that of `usual`."""
    own = next(row for row in rows if row["layout"] == usual)["errors"]

    def is_as_near(row: dict) -> bool:
        return all(row["errors"][aim][kind] <= 1.01 * own[aim][kind] for aim in own for kind in own[aim])

    return min(filter(is_as_near, rows), key=lambda row: row["bytes_per_token"])


def _real(results: Path) -> dict:
    return read_json_object(results / "cache_layouts.json", "measure again, by benchmarks/cache_layouts.py")


def _quality(results: Path) -> dict:
    return read_json_object(results / "teacher_quality.json", "delete it, and it is made again")


TABLES = {
    "captured": captured, "variation": variation, "gradient": gradient, "default": default, "sampling": sampling,
    "disagreement": disagreement, "texts": texts, "solutions": solutions, "prose": prose, "aims": aims,
    "lab": lab, "costs": costs,
}  # fmt: skip

if __name__ == "__main__":
    replace_text(PAGE, page(PAGE.read_text(encoding="utf-8")))
