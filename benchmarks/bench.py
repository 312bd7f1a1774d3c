"""The loss and the training step beside plain autograd and other people's, on one CPU thread.

    python benchmarks/bench.py [--only SECTION ...] [--record] [--quick]

Seconds are process CPU time, medians of interleaved rounds; memory is the growth of the peak resident set of a fresh
process. Results are kept only with --record, section by section, so that one can be taken again alone. Exits non-zero
when a target is missed.
"""

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import loss_cost
import torch
import verdicts
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from timing import processor, versions

import qtarget as qt
from qtarget.disk.files import read_json_object, write_json

RESULTS = Path(__file__).parent / "results" / "speed.json"
PACKAGES = ("torch", "transformers", "trl", "liger-kernel", "triton")


def step(quick: bool) -> dict:
    import whole_step  # loads trl, which the losses do without

    whole_step.quiet()
    return whole_step.run(whole_step.QUICK if quick else whole_step.Model())


def waits(quick: bool) -> dict:
    import synchronisations  # loads trl too

    return synchronisations.run(quick)


def sections(quick: bool) -> dict[str, Callable[[], dict]]:
    sizes = loss_cost.QUICK if quick else loss_cost.FULL
    of_loss = {name: lambda run=run: run(sizes) for name, run in loss_cost.SECTIONS.items()}
    return {**of_loss, "step": lambda: step(quick), "waits": lambda: waits(quick)}


def measured(run: Callable[[], dict]) -> dict:
    """A section's findings, with where and when they were made and how busy the machine was."""
    before, start = os.getloadavg()[0], time.perf_counter()
    found = run()
    return {
        "machine": {"processor": processor(), "threads": 1, **versions(*PACKAGES), "qtarget": qt.__version__},
        "date": date.today().isoformat(),
        "load": [before, os.getloadavg()[0]],
        "took": time.perf_counter() - start,
        **found,
    }


def read(path: Path) -> dict[str, Any]:
    return read_json_object(path, "measure again") if path.is_file() else {}


def save(path: Path, found: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, found)


def show(found: dict, console: Console) -> None:
    """Each target beside its figure; everything else is in the JSON and on the page."""
    table = Table(title="Targets", title_justify="left", box=SIMPLE_HEAD)
    for name in ("what", "found", "target", "limit", "verdict"):
        table.add_column(name, justify="left" if name == "what" else "right", no_wrap=True)
    for line in verdicts.lines(found):
        colour = {True: "green", False: "red", None: "yellow"}[line.is_met]
        figure, limit = ("" if value is None else f"{value:.3g}{line.unit}" for value in (line.found, line.machine))
        target = f"{line.limit} {line.target:g}{line.unit}"
        table.add_row(line.what, figure, target, limit, f"[{colour}]{line.verdict}[/]")
    console.print(table)
    console.print(f"on {processor()}; limit: what the better of MKL's and oneDNN's bare products would reach here")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(sections(True)), help="these sections alone")
    parser.add_argument("--record", action="store_true", help="keep what was found among the results")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results are kept")
    parser.add_argument("--quick", action="store_true", help="a little of everything, to see that it works")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    console, start = Console(width=max(Console().width, 130)), time.perf_counter()
    found = read(args.results) if args.record else {}
    for name, run in sections(args.quick).items():
        if args.only and name not in args.only:
            continue
        found[name] = measured(run)
        console.print(f"{name}: {found[name]['took']:.0f} s, load {found[name]['load'][1]:.1f}")
        if args.record:
            save(args.results, found)
    show(found, console)
    console.print(f"{time.perf_counter() - start:.0f} s in all")
    return 0 if args.quick or all(line.is_met is not False for line in verdicts.lines(found)) else 1


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())
