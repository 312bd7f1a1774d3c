"""How often 95 % intervals hold the truth: simulated evaluations, where the truth is known.

    python benchmarks/coverage.py [--draws 400]

writes benchmarks/results/coverage.json and the tables of docs/statistics.md, between its marks.
"""

import argparse
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from qtarget.disk.files import replace_text, write_json
from qtarget.evaluate.confidence import Interval, paired_seeds
from qtarget.evaluate.confidence.intervals import (
    beta_binomial,
    bootstrap,
    percentiles,
    squared_error,
    student_t_interval,
    wilson,
)
from qtarget.evaluate.confidence.quantiles import student_quantile
from qtarget.evaluate.confidence.resampling import two_level_means

RESULTS = Path(__file__).parent / "results" / "coverage.json"
PAGE = Path(__file__).parent.parent / "docs" / "statistics.md"
K, BOOTSTRAP_DRAWS = 16, 1000
AVERAGES = [(30, 0.09, 0.51), (30, 0.3, 9.7), (30, 0.1, 1.9), (40, 1.9, 2.1), (120, 1.98, 0.02), (272, 0.6, 1.4)]
"""Questions, and the Beta distribution of their chances."""
SEEDS = [(1, 10), (1, 30), (1, 120), (1, 500)]
SEEDS += [(n_seeds, n) for n in (10, 30, 120) for n_seeds in (2, 3, 5, 10)] + [(5, 300)]
"""Training seeds, and questions."""
PAIRS = [(0.0, 1.0, 1.0), (0.1, 1.0, 1.0), (0.5, 1.0, 1.0), (0.0, 3.0, 0.15), (0.5, 3.0, 0.15), (0.2, 1.98, 0.02)]
PAIRS += [(0.0, 0.1, 1.9), (0.5, 0.1, 1.9)]
"""Spread between seeds, in logits, and the Beta distribution of the questions' chances."""
GAIN, QUESTION_SPREAD, CELL_SPREAD = 0.4, 0.5, 0.5
"""In logits: of method A, of the gain between questions, and of a seed on a question."""

Found = dict[str, Interval | tuple[float, float] | None]


def tallied(draws: int, truth: float, once: Callable[[int], Found]) -> dict[str, Any]:
    """Share of intervals that hold the truth, their mean width in points, and their number.

    None holds nothing and has no width.
    """
    held: dict[str, list[bool]] = {}
    widths: dict[str, list[float]] = {}
    for draw in range(draws):
        for name, interval in once(draw).items():
            low, high = interval or (truth + 1, truth + 1)
            held.setdefault(name, []).append(low - 1e-12 <= truth <= high + 1e-12)
            widths.setdefault(name, []).append(100 * (high - low))
    return {
        name: {
            "coverage": round(float(np.mean(held[name])), 4),
            "width": round(float(np.mean(widths[name])), 2),
            "draws": len(held[name]),
        }
        for name in held
    }


def averages(draws: int) -> Iterator[dict[str, Any]]:
    for n, a, b in AVERAGES:
        rng = np.random.default_rng(n)

        def once(draw: int, n: int = n, a: float = a, b: float = b, rng: np.random.Generator = rng) -> Found:
            right = rng.binomial(K, rng.beta(a, b, n))
            iid = np.sqrt(max(right.mean() / K * (1 - right.mean() / K), 0) / (n * K)) * 1.96
            return {
                "all samples alike": (right.mean() / K - iid, right.mean() / K + iid),
                "t": student_t_interval(right / K),
                "bootstrap": bootstrap(right / K, BOOTSTRAP_DRAWS, draw),
                "ours": wilson(right / K, n * K),
                "Beta-binomial": beta_binomial(right.tolist(), [K] * n),
            }

        found = tallied(draws, a / (a + b), once)
        yield {"questions": n, "mean": round(a / (a + b), 4), "intervals": found}


def pairs(draws: int) -> Iterator[dict[str, Any]]:
    for n_seeds, n in SEEDS:
        for seed_spread, a, b in PAIRS if n_seeds > 1 else [pair for pair in PAIRS if pair[0] == 0]:
            rng = np.random.default_rng([n_seeds, n])
            truth = _truth(rng, (seed_spread, a, b))

            def once(draw: int, shape: Any = (n_seeds, n), world: Any = (seed_spread, a, b), rng: Any = rng) -> Found:
                one, other = (rng.binomial(K, chances) / K for chances in _chances(rng, *shape, *world))
                found, table = paired_seeds(one, other), one - other
                by_question = student_quantile(0.975, shape[1] - 1) * np.sqrt(squared_error(table.mean(0)))
                two_level = percentiles(two_level_means(table, BOOTSTRAP_DRAWS, draw))
                return {
                    "by question alone": (table.mean() - by_question, table.mean() + by_question),
                    "two-level bootstrap": two_level,
                    "ours": (found.low, found.high),
                }

            yield {
                "seeds": n_seeds,
                "questions": n,
                "seed_spread": seed_spread,
                "beta": [a, b],
                "difference": round(truth, 4),
                "intervals": tallied(draws, truth, once),
            }


def _chances(rng: np.random.Generator, n_seeds: int, n: int, seed_spread: float, a: float, b: float) -> tuple[Any, Any]:
    """Two arms' chances of being right, by seed and question."""
    chance = np.clip(rng.beta(a, b, n), 1e-6, 1 - 1e-6)
    logit = np.log(chance / (1 - chance))
    gain, cell = GAIN + rng.normal(0, QUESTION_SPREAD, n), (n_seeds, n)
    one = logit + gain + rng.normal(0, seed_spread, (n_seeds, 1)) + rng.normal(0, CELL_SPREAD, cell)
    other = logit + rng.normal(0, seed_spread, (n_seeds, 1)) + rng.normal(0, CELL_SPREAD, cell)
    return 1 / (1 + np.exp(-one)), 1 / (1 + np.exp(-other))


def _truth(rng: np.random.Generator, world: tuple[float, float, float]) -> float:
    return float(np.mean([np.subtract(*_chances(rng, 200, 2000, *world)).mean() for _ in range(6)]))


def tables(results: dict[str, Any]) -> str:
    """As Markdown: what the cells are, and coverage in per cent with mean width in points in brackets."""
    lines = [_caption(results), "", *_head("questions | mean", results["averages"][0])]
    lines += [f"| {row['questions']} | {row['mean']:.2f} | {_cells(row)} |" for row in results["averages"]]
    lines += ["", *_head("questions | mean | spread of seeds | difference | seeds", results["pairs"][0])]
    for row in sorted(results["pairs"], key=_by_population):
        mean = row["beta"][0] / sum(row["beta"])
        facts = (
            f"{row['questions']} | {mean:.2f} | {row['seed_spread']:g} | {100 * row['difference']:.1f} | {row['seeds']}"
        )
        lines.append(f"| {facts} | {_cells(row)} |")
    return "\n".join(lines)


def _by_population(row: dict[str, Any]) -> tuple[Any, ...]:
    """Rows of one population stand together, in the order of their seeds."""
    return row["questions"], row["beta"][0] / sum(row["beta"]), row["seed_spread"], row["seeds"]


def _caption(results: dict[str, Any]) -> str:
    draws, k = results["draws"], results["k"]
    error = 100 * 1.96 * (0.95 * 0.05 / draws) ** 0.5
    return (
        "Each cell: per cent of nominal 95 % intervals that held the truth, and in brackets their mean width in "
        f"points; {k} samples a question, {draws:,} draws in every cell (so ±{error:.1g} at 95)."
    )


def _head(facts: str, row: dict[str, Any]) -> list[str]:
    names = list(row["intervals"])
    return [f"| {facts} | {' | '.join(names)} |", "|---" * (facts.count("|") + 1 + len(names)) + "|"]


def _cells(row: dict[str, Any]) -> str:
    cells = row["intervals"].values()
    return " | ".join(f"{100 * cell['coverage']:.1f} ({cell['width']:.1f})" for cell in cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=400)
    draws = parser.parse_args().draws
    results = {
        "draws": draws,
        "k": K,
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__},
        "averages": list(averages(draws)),
        "pairs": list(pairs(draws)),
    }
    write_json(RESULTS, results)
    replace_text(PAGE, page_with(PAGE.read_text(encoding="utf-8"), results))


def page_with(page: str, results: dict[str, Any]) -> str:
    """The page with the tables of these results between its marks."""
    before, _, rest = page.partition("<!-- coverage -->\n")
    after = rest.partition("<!-- /coverage -->")[2]
    return f"{before}<!-- coverage -->\n{tables(results)}\n<!-- /coverage -->{after}"


if __name__ == "__main__":
    main()
