"""The parts of a page that the catalogue of methods writes: their tables, and how many methods there are."""

from qtarget.disk.pages import markdown
from qtarget.job.method_pages import entries


def catalogue_parts() -> dict[str, str]:
    """What a page may mark: the tables `methods` (the formulas) and `uses` (when to take which), the number
    `method_count`, and `further_count`, without Target-SFT."""
    columns = ("method", "trust γ", "residual π̃", "needs", "source")
    rows = [(f"`{e.name}`", e.trust, e.residual, ", ".join(e.needs), e.source) for e in entries()]
    uses = [(f"`{e.name}`", e.use_when, ", ".join(e.needs)) for e in entries()]
    count = len(rows)
    return {
        "methods": markdown(columns, rows),
        "uses": markdown(("method", "use when", "needs"), uses),
        "method_count": str(count),
        "further_count": str(count - 1),
    }
