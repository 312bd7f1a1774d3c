"""What the project claims, measured: the laws on every method, parity with TRL, speed and memory beside their targets.

    python benchmarks/verify.py [--skip-speed]

Prints three tables and exits non-zero on a miss: a law that fails or was not run on a method, a deviation above its
bound, a ratio below its target.
"""

import argparse
import io
import sys
from collections import defaultdict
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

import bench
import pytest
import torch
import transformers
import verdicts
from loss_cost import FULL, SECTIONS
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

import qtarget as qt

TESTS = Path(__file__).parents[1] / "tests"
LAWS = {
    "01": "simplex", "02": "gradient", "03": "paper", "04": "fused", "05": "mask",
    "06": "limits", "07": "edges", "08": "bf16", "09": "runs", "10": "code",
}  # fmt: skip
OFFICIAL = {"dft": "TRL"}
"""Methods whose official code is compared in the parity table."""
PARITY_BOUND = 1e-5


class Coverage:
    """A pytest plugin that counts passed and failed law tests by (method, law)."""

    def __init__(self) -> None:
        self.cell_of: dict[str, list[tuple[str, str]]] = {}
        self.passed: dict[tuple[str, str], int] = defaultdict(int)
        self.failed: dict[tuple[str, str], int] = defaultdict(int)

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        name = item.name.partition("[")[0]
        if not name.startswith("test_law_"):
            return
        given = item.callspec.params if hasattr(item, "callspec") else {}
        methods = {m for m in (_method(given.get(key)) for key in ("row", "name", "other", "method")) if m}
        self.cell_of[item.nodeid] = [(method, name[9:11]) for method in methods]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.failed:
            for cell in self.cell_of.get(report.nodeid, []):
                (self.failed if report.failed else self.passed)[cell] += 1


def _method(value: object) -> str | None:
    name = getattr(value, "name", value)
    return name if isinstance(name, str) and name in qt.METHODS else None


def laws(console: Console) -> list[str]:
    """Methods × laws: how many tests passed in each cell; no cell may be blank."""
    coverage = Coverage()
    pytest.main([str(TESTS / "laws"), "-q", "--no-header", "-p", "no:cacheprovider"], plugins=[coverage])
    table = Table(title="Law tests passed, by method", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("method", no_wrap=True)
    for number, word in LAWS.items():
        table.add_column(f"{int(number)}\n{word}", justify="right", no_wrap=True)
    misses = []
    for method in qt.METHODS:
        cells = []
        for law, word in LAWS.items():
            cell = (method, law)
            if coverage.failed[cell] or not (coverage.passed[cell] or law == "10"):
                misses.append(
                    f"law {int(law)} ({word}) on {method}: "
                    f"{coverage.failed[cell]} failed, {coverage.passed[cell]} passed"
                )
            cells.append(str(coverage.passed[cell]) if coverage.passed[cell] else OFFICIAL.get(method, "none"))
        table.add_row(method, *cells)
    console.print(table)
    console.print(
        "Law 9 exempts methods of batch scope by name: they mean the batch they are given. Law 10 compares with code\n"
        "that can be imported: torch's here, TRL's in the next table; none means that a method has no such code."
    )
    return misses


def parity(console: Console) -> list[str]:
    """Training runs beside TRL's own, cut up, and on two processes."""
    sys.path.insert(0, str(TESTS))
    from train.parity import measure

    transformers.logging.set_verbosity_error()
    console.print("Training beside TRL, cut up, and on two processes ...")
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        figures = measure()
    table = Table(title="Largest relative deviation over the steps of a run", title_justify="left", box=SIMPLE_HEAD)
    for name in ("run", "loss", "gradient norm", "bound"):
        table.add_column(name, justify="left" if name == "run" else "right", no_wrap=True)
    misses = []
    for name, found in figures.items():
        table.add_row(name, f"{found.loss:.1e}", f"{found.grad_norm:.1e}", f"{PARITY_BOUND:.0e}")
        if not max(found) < PARITY_BOUND:
            misses.append(f"{name}: {max(found):.1e} is above {PARITY_BOUND:.0e}")
    console.print(table)
    return misses


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--skip-speed", action="store_true", help="leave out speed and memory")
    args = parser.parse_args()
    console = Console(width=max(Console().width, 110))
    misses = laws(console) + parity(console)
    if not args.skip_speed:
        torch.set_num_threads(1)
        found = {name: bench.measured(partial(SECTIONS[name], FULL)) for name in ("speed", "memory")}
        bench.show(found, console)
        misses += [f"{line.what}: {line.verdict}" for line in verdicts.lines(found) if line.is_met is False]
    for miss in misses:
        console.print(f"[red]MISS[/] {miss}")
    console.print("[bold]every claim holds[/]" if not misses else f"[bold]{len(misses)} missed[/]")
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
