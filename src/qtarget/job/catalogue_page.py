"""The parts of a page that the catalogue of methods writes: the README's table, and how many methods there are."""

from pathlib import Path

from qtarget.job.method_pages import entries
from qtarget.pages import filled, markdown

COLUMNS = ("method", "trust γ", "residual π̃", "needs", "source")


def catalogue_parts() -> dict[str, str]:
    """What a page may mark: the table `methods`, the number `method_count`, and `further_count`, without Target-SFT."""
    rows = [(f"`{e.name}`", e.trust, e.residual, ", ".join(e.needs), e.source) for e in entries()]
    table = markdown(COLUMNS, rows)
    return {"methods": table, "method_count": str(len(rows)), "further_count": str(len(rows) - 1)}


def catalogue_written(text: str) -> str:
    """The page `text` with its marked parts as the catalogue has them now.

    Raises:
        ValueError: a mark names a part that the catalogue does not have.
    """
    parts = catalogue_parts()

    def part(name: str) -> str:
        if name not in parts:
            raise ValueError(f'the page marks a part "{name}"; the catalogue writes {", ".join(parts)}')
        return parts[name]

    return filled(text, part)


def rewrite_catalogue(page: Path) -> None:
    """Write the marked parts of a page anew, in place."""
    page.write_text(catalogue_written(page.read_text(encoding="utf-8")), encoding="utf-8")
