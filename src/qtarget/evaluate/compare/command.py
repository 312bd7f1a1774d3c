"""`qtarget compare`: arms read, compared, and written down."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path

from rich.console import Console

from qtarget.disk.files import replace_text, write_json
from qtarget.evaluate.compare.arms import Arm, read_arms
from qtarget.evaluate.compare.inspect_export import export_inspect
from qtarget.evaluate.compare.picture import draw_compared
from qtarget.evaluate.compare.tables import ComparisonTables, compare_arms
from qtarget.evaluate.compare.view import compared_view

TABLE_WIDTH = 120


@dataclass
class Found:
    """What a command found.

    Attributes:
        tables: None where a single arm was given, only to export it.
        written: what was written, in words.
    """

    arms: Sequence[Arm]
    tables: ComparisonTables | None
    to_inspect: bool
    written: list[str]


def compared(words: Sequence[str], out: Path | None, to: str | None) -> Found:
    """Read and compare; nothing is written yet.

    Raises:
        ValueError: arms that cannot be read or compared, or an export without a folder.
    """
    if to not in (None, "inspect"):
        raise ValueError(f"--to {to} is not known; write --to inspect.")
    if to is not None and out is None:
        raise ValueError("--to inspect needs a folder; write --out FOLDER.")
    arms = read_arms(words)
    only_export = to is not None and len(arms) == 1
    return Found(arms, None if only_export else compare_arms(arms), to is not None, [])


def write_compared(found: Found, out: Path) -> None:
    """``comparison.json``, ``comparison.txt``, ``comparison.png``, and ``inspect/`` where it was asked for."""
    out.mkdir(parents=True, exist_ok=True)
    if found.tables is not None:
        write_json(out / "comparison.json", asdict(found.tables))
        page = StringIO()
        Console(file=page, width=TABLE_WIDTH).print(compared_view(found.tables, TABLE_WIDTH))
        replace_text(out / "comparison.txt", page.getvalue())
        draw_compared(found.tables, out / "comparison.png")
        found.written.append(f"table, picture and JSON: {out}/comparison.*")
    if found.to_inspect:
        logs = export_inspect(found.arms, out / "inspect")
        found.written.append(f"{len(logs)} logs: inspect view --log-dir {out / 'inspect'}")
