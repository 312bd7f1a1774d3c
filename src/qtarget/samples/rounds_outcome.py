"""What rounds came to: a record of each, as JSON and as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qtarget.disk.files import read_json_object, reading_fields
from qtarget.job.build import METRICS
from qtarget.samples.prepare_sampling import SUMMARY
from qtarget.samples.round_configs import SAMPLES_FOLDER, RoundPlace

HEADS = ("round", "prompts", "samples", "right", "none right", "kept", "train loss", "eval nll")


@dataclass(frozen=True)
class RoundRecord:
    """One round.

    Attributes:
        right: share of its samples; None where nothing is graded.
        none_right: prompts of which no sample is right.
        rows: samples that it was trained on.
        train, evaluation: figures of its training, as its metrics.json has them, without times.
        student: folder of the model.
    """

    number: int
    writer: str
    prompts: int
    samples: int
    right: float | None
    none_right: int | None
    rows: int
    steps: int
    student: str
    train: Mapping[str, float] = field(default_factory=dict)
    evaluation: Mapping[str, float] = field(default_factory=dict)

    def cells(self) -> tuple[str, ...]:
        """As the table has it."""
        right = "–" if self.right is None else f"{self.right:.1%}"
        none = "–" if self.none_right is None else f"{self.none_right:,}"
        loss, nll = (_number(part.get(name)) for part, name in ((self.train, "mean_loss"), (self.evaluation, "nll")))
        return (str(self.number), f"{self.prompts:,}", f"{self.samples:,}", right, none, f"{self.rows:,}", loss, nll)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def read_round(place: RoundPlace) -> RoundRecord:
    """The record of a round that is done.

    Raises:
        ValueError: a file of it is damaged.
    """
    remedy = f"delete {place.home} to run the round again"
    samples, metrics = place.home / SAMPLES_FOLDER / SUMMARY, place.student / METRICS
    drawn, figures = (read_json_object(path, remedy) for path in (samples, metrics))
    with reading_fields(samples, remedy):
        right = None if drawn["right"] is None else drawn["right"] / drawn["samples"]
        return RoundRecord(
            place.number, place.writer, drawn["prompts"], drawn["samples"], right, drawn["none_right"], drawn["rows"],
            figures.get("steps", 0), str(place.student),
            _timeless(figures.get("train")), _timeless(figures.get("eval")),
        )  # fmt: skip


def _timeless(figures: Mapping[str, float] | None) -> dict[str, float]:
    """Figures without what the clock says, which differs from run to run."""
    return {name: value for name, value in (figures or {}).items() if "runtime" not in name}


def rounds_json(records: Sequence[RoundRecord]) -> dict[str, Any]:
    """The content of `rounds.json`."""
    return {"rounds": [asdict(record) for record in records]}


def rounds_markdown(records: Sequence[RoundRecord]) -> str:
    """The table as a page."""
    rows = [HEADS, ("---",) * len(HEADS), *(record.cells() for record in records)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    return f"# Rounds\n\n{table}\n\nThe last student is in {records[-1].student}.\n"


def rounds_view(records: Sequence[RoundRecord], out: Path) -> RenderableType:
    """The table on a terminal, and where the last student is."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for head in HEADS:
        table.add_column(head, justify="right", no_wrap=True)
    for record in records:
        table.add_row(*record.cells())
    last = records[-1]
    return Group(table, Text(f"the last student is in {last.student}; every figure in {out / 'rounds.json'}"))
