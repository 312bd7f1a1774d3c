"""What `qtarget teacher cache --dry-run` prints."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from qtarget.disk.sizes import in_bytes
from qtarget.job.cache_dry_run import FORMULA, CacheDryRun
from qtarget.job.cost.printed import break_even_remark, cost_heading, cost_table, in_hours, runs_in_words


def dry_run_view(found: Sequence[CacheDryRun]) -> RenderableType:
    """For each cache its rows, tokens, bytes and hours, and from how many runs on it pays."""
    parts = [part for each in found for part in _one(each)]
    return Group(*parts, Text("\nNothing was written."))


def _one(each: CacheDryRun) -> Iterator[RenderableType]:
    yield cost_heading(each.cost.name, f"{each.source}, to {each.folder}")
    yield cost_table(list(_figures(each)))
    if each.unknown is not None:
        yield Text(f"  {each.source} was not asked: {each.unknown.rstrip('.')}.", style="yellow")
        yield Text(f"  {FORMULA}; `qtarget teacher cache` shows them while it writes.", style="dim")
    if each.pilot is not None and each.pilot.warning is not None:
        yield Text(f"\n{each.pilot.warning}", style="bold yellow")
    if each.free is not None and each.cost.bytes > each.free:
        yield Text(
            f"\n{in_bytes(each.cost.bytes)} are written and {in_bytes(each.free)} are free: keep fewer tokens "
            "(`teacher_top_k`), or write elsewhere.",
            style="bold yellow",
        )


def _figures(each: CacheDryRun) -> Iterator[tuple[str, str, str]]:
    cost = each.cost
    yield "rows", f"{cost.documents:,}", "of training and evaluation, each once"
    yield "tokens", f"{cost.tokens:,}", f"are learned, of {cost.read:,} that it reads"
    per_token = f"{cost.kept} kept at each, in {each.storage_dtype}: {each.bytes_per_token} bytes"
    yield "on disk", in_bytes(cost.bytes), f"{per_token}; shards: {cost.shards:,}"
    if each.free is not None:
        yield "free", in_bytes(each.free), ""
    yield from _times(each)
    runs = f"a cache costs less from {runs_in_words(cost.pays_from)} on"
    yield "break-even", f"{cost.break_even:.2g} runs", f"{runs}; {break_even_remark(cost.read, cost.read_live)}"


def _times(each: CacheDryRun) -> Iterator[tuple[str, str, str]]:
    if each.pilot is None or each.seconds is None or each.live_seconds is None:
        yield "teacher time", "unknown", ""
        return
    measured = f"at {each.pilot.speed:,.0f} tokens/s, measured on {each.pilot.documents} rows, one {each.pilot.device}"
    yield "teacher time", in_hours(each.seconds), measured
    yield "live", in_hours(each.live_seconds), "beside each run, were it not cached"
