"""What `qtarget compare` does: read the folders, compare the arms, write tables, picture and logs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path

from qtarget.console import SafeConsole
from qtarget.disk.files import replace_text, write_json
from qtarget.disk.place import check_place
from qtarget.evaluate.compare.arms import Arm, read_arms
from qtarget.evaluate.compare.inspect_export import export_inspect
from qtarget.evaluate.compare.picture import draw_comparison
from qtarget.evaluate.compare.tables import ComparisonTables, compare_arms
from qtarget.evaluate.compare.view import comparison_view

TABLE_WIDTH = 120


@dataclass
class ComparisonReport:
    """What a comparison gave.

    Attributes:
        tables: None where a single arm was given, only to export it.
        to_inspect: whether logs for Inspect are to be written too.
        written: a line for the user on each thing that was written.
    """

    arms: Sequence[Arm]
    tables: ComparisonTables | None
    to_inspect: bool
    written: list[str]


def compare_folders(
    words: Sequence[str], out: Path | None, to: str | None, any_budget: bool = False
) -> ComparisonReport:
    """Read the arms and compare them; nothing is written yet.

    Args:
        words: an arm each, as `read_arms` takes them.
        out: folder for the files, if any are to be written.
        to: "inspect" for logs of Inspect besides.
        any_budget: as of `compare_arms`.

    Raises:
        ValueError: arms that cannot be read or compared, or an export without a folder.
    """
    if to not in (None, "inspect"):
        raise ValueError(f"--to {to} is not known; write --to inspect, the only format there is.")
    if to is not None and out is None:
        raise ValueError("--to inspect needs a folder; write --out FOLDER.")
    if out is not None:
        check_place(out, f"`--out {out}`")
    arms = read_arms(words)
    only_export = to is not None and len(arms) == 1
    return ComparisonReport(arms, None if only_export else compare_arms(arms, any_budget), to is not None, [])


def write_comparison(report: ComparisonReport, out: Path) -> None:
    """``comparison.json``, ``comparison.txt``, ``comparison.png``, and ``inspect/`` where it was asked for."""
    out.mkdir(parents=True, exist_ok=True)
    if report.tables is not None:
        write_json(out / "comparison.json", asdict(report.tables))
        page = StringIO()
        SafeConsole(file=page, width=TABLE_WIDTH).print(comparison_view(report.tables, TABLE_WIDTH))
        replace_text(out / "comparison.txt", page.getvalue())
        draw_comparison(report.tables, out / "comparison.png")
        report.written.append(f"table, picture and JSON: {out}/comparison.*")
    if report.to_inspect:
        logs = export_inspect(report.arms, out / "inspect")
        report.written.append(f"{len(logs)} logs: inspect view --log-dir {out / 'inspect'}")
