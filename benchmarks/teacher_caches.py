"""How good a teacher cache is, and what it costs.

    python benchmarks/teacher_caches.py [--record] [--results FOLDER] [--quick]

Quality is seeded and no matter of the machine: what is in benchmarks/results/ is read, not made again. Costs are
measured, and kept only with --record. Exits non-zero when a cost misses its target.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import teacher_cost
import teacher_lab
import teacher_quality
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from teacher_lab import Result

from qtarget.disk.files import read_json_object, write_json
from qtarget.study.quiet import quiet

RESULTS = Path(__file__).parent / "results"
QUICK_SIZE = teacher_quality.Size(tokens=8, vocab=1000, draws=2)
EVERY = 0


def quality(results: Path, quick: bool) -> dict:
    """The errors over a large vocabulary, read or made."""
    saved = results / "teacher_quality.json"
    if saved.is_file():
        return read_json_object(saved, "delete it, and it is made again")
    torch.set_num_threads(1)
    found = teacher_quality.run(QUICK_SIZE if quick else teacher_quality.Size())
    save(saved, {"machine": teacher_cost.machine(), **found})
    return read_json_object(saved, "delete it, and it is made again")


def save(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content)


def table(title: str, columns: Sequence[str]) -> Table:
    made = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for index, column in enumerate(columns):
        made.add_column(column, justify="right" if index > 1 else "left", no_wrap=True)
    return made


def show_quality(found: dict, console: Console) -> None:
    """Total variation of Q and relative error of the gradient, by target, tail and K."""
    size, ks = found["tokens"], teacher_quality.KS
    count = size["tokens"] * len(size["sharpness"])
    masses = ", ".join(f"{row['k']}: {row['mean']:.3f}" for row in found["captured"])
    console.print(f"V={size['vocab']}, {count} tokens, float64. Teacher's mass on its K tokens: {masses}")
    by = {(e["target"], e["tail"], e["k"], e["storage"]): e for e in found["errors"]}
    for title, cell in (
        ("Total variation of Q from the dense teacher's, mean over tokens", lambda e: e["variation"]["mean"]),
        ("Error of the logit gradient over its norm, all tokens together", lambda e: e["gradient"]["pooled"]),
    ):
        made = table(title, ["target", "tail", *(f"K={k}" for k in ks), "all"])
        for target, (_, tails) in teacher_quality.TARGETS.items():
            for tail in tails:
                cells = [f"{cell(by[target, tail, k, 'float64']):.4f}" for k in ks]
                every = by.get((target, tail, EVERY, "float64"))
                made.add_row(target, tail, *cells, f"{cell(every):.0e}" if every else "")
        console.print(made)


def show_lab(world: str, results: list[Result], console: Console) -> None:
    """Average@k by arm, and its difference to the live teacher's on the same questions."""
    budget = results[0].budget
    title = f"World {world}: Average@{budget.samples} after {budget.steps} steps from a cache (64 tokens in all)"
    made = table(
        title, ["target", "teacher", f"Average@{budget.samples}", "minus live", "95 %", "loss, 10 steps", "all"]
    )
    for result in results:
        arm, gap = result.arm, teacher_lab.against_live(result, results)
        off = [f"{teacher_lab.loss_deviation(result, results, steps):.0e}" for steps in (10, None)]
        paired = [f"{100 * gap.mean:+.1f}", f"{100 * gap.low:+.1f} … {100 * gap.high:+.1f}"]
        differs = [""] * 4 if arm == teacher_lab.live_of(result, results).arm else [*paired, *off]
        differs = [*paired, "", ""] if arm.order else differs  # other rows, other losses
        made.add_row(target_of(result), teacher_of(result), f"{100 * result.mean:.1f}", *differs)
    console.print(made)


def target_of(result: Result) -> str:
    return " ".join([result.arm.method, *(f"{name}={value}" for name, value in result.arm.hyperparameters.items())])


def teacher_of(result: Result) -> str:
    arm = result.arm
    if arm.tail == teacher_lab.LIVE:
        return "live, rows in another order" if arm.order else "live"
    return f"K={arm.k}, {arm.tail}" + (f", {arm.storage}" if arm.storage != "float16" else "")


def show_costs(costs: dict, console: Console) -> None:
    """Each cost beside its target."""
    model, load = costs["model"], f"{costs['load_before']:.1f} before, {costs['load_after']:.1f} after"
    shape = f"{model['layers']} layers of {model['hidden']}, V={model['vocab']}"
    title = f"{model['name']}: {shape}, fp32, one thread, K={costs['kept']}; load of the machine {load}"
    made = table(title, ["cost", "", "found", "target", "margin"])
    for line in teacher_cost.lines(costs):
        verdict = "[green]met[/]" if line.is_met else "[red]missed[/]"
        target = f"{line.limit} {line.target:g}{line.unit}"
        made.add_row(line.what, verdict, f"{line.found:.4g}{line.unit}", target, f"{100 * line.margin:+.1f} %")
    console.print(made)
    reading, writing = costs["reading"], costs["writing"]["throughput"]["wall"]["median"]
    console.print(
        f"Writing by wall clock {writing:.2f}x. Reading {reading['tokens']} tokens: {reading['warm_ms']:.3f} ms again, "
        f"{reading['first_ms']:.3f} ms the first time,\n{reading['cold_ms']:.2f} ms from disk, "
        f"{reading['collated_ms']:.3f} ms with finding and laying out."
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--record", action="store_true", help="keep the costs among the results")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="where results are; quality is made where missing"
    )
    parser.add_argument("--quick", action="store_true", help="a little of everything, to see that it works")
    parser.add_argument("--skip-costs", action="store_true", help="quality alone")
    args = parser.parse_args()
    console = Console(width=max(Console().width, 130))
    with quiet(), tempfile.TemporaryDirectory() as folder:
        return report(Path(folder) if args.quick else args.results, args, console)


def report(results: Path, args: argparse.Namespace, console: Console) -> int:
    show_quality(quality(results, args.quick), console)
    ks = (4, 64) if args.quick else teacher_lab.KS
    show_lab("weak-operator", teacher_lab.run(results / "teacher_lab", args.quick, ks=ks), console)
    if args.skip_costs:
        return 0
    costs = teacher_cost.run(teacher_cost.QUICK if args.quick else teacher_cost.Sizes())
    show_costs(costs, console)
    if args.record:
        save(results / "teacher_cost.json", costs)
    return 0 if args.quick or all(line.is_met for line in teacher_cost.lines(costs)) else 1


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())
