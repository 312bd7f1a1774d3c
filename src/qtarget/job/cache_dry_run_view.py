"""What `qtarget teacher cache --dry-run` prints."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from qtarget.console import amount
from qtarget.disk.sizes import in_bytes
from qtarget.job.cache_dry_run import FORMULA, CacheDryRun
from qtarget.job.cost.printed import break_even_remark, cost_heading, cost_table, in_hours


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
    if each.free is not None and each.bytes > each.free:
        fewer = "leave more out (`cache_missing_mass`)" if each.cost.at_most else "keep fewer tokens (`teacher_top_k`)"
        yield Text(
            f"\n{_written(each)} are written and {in_bytes(each.free)} are free: {fewer}, or write elsewhere.",
            style="bold yellow",
        )


def _figures(each: CacheDryRun) -> Iterator[tuple[str, str, str]]:
    cost = each.cost
    yield "rows", f"{cost.documents:,}", "of training and evaluation, each once"
    yield "tokens", f"{cost.tokens:,}", f"are learned, of {cost.read:,} that it reads"
    yield "on disk", in_bytes(each.bytes), f"{_per_token(each)}; shards: {cost.shards:,}"
    if each.free is not None:
        yield "free", in_bytes(each.free), ""
    yield from _times(each)
    runs = f"a cache costs less from {amount(cost.pays_from, 'run')} on"
    yield "break-even", f"{cost.break_even:.2g} runs", f"{runs}; {break_even_remark(cost.read, cost.read_live)}"


def _written(each: CacheDryRun) -> str:
    return f"At most {in_bytes(each.bytes)}" if each.is_bound else in_bytes(each.bytes)


def _per_token(each: CacheDryRun) -> str:
    """What is kept of a token, and how many bytes that takes."""
    if not each.cost.at_most:
        return f"{each.cost.kept} kept at each, in {each.storage_dtype}: {each.bytes_per_token} bytes"
    kept = f"by their mass up to {each.cost.kept} kept at each, in {each.storage_dtype}"
    if each.pilot is None:
        return f"at most: {kept}, {each.bytes_per_token} bytes if nothing can be left out or compressed"
    return f"about: {kept}, {each.bytes_per_token:.0f} bytes in the mean of {each.pilot.documents} rows"


def _times(each: CacheDryRun) -> Iterator[tuple[str, str, str]]:
    if each.pilot is None or each.seconds is None or each.live_seconds is None:
        yield "teacher time", "unknown", ""
        return
    measured = f"at {each.pilot.speed:,.0f} tokens/s, measured on {each.pilot.documents} rows, one {each.pilot.device}"
    yield "teacher time", in_hours(each.seconds), measured
    yield "live", in_hours(each.live_seconds), "beside each run, were it not cached"
