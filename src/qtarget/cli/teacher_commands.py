"""`qtarget teacher cache`, `verify` and `serve`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qtarget.cli.library_noise import diverted_noise, noted_warnings
from qtarget.cli.terminal import EXIT_FAILED, AsJson, ReadsPickles, preparation, print_json, print_view
from qtarget.cli.training_commands import PASS_KEYS_ON, ConfigArguments
from qtarget.console import SafeConsole
from qtarget.outcomes import Refusal

if TYPE_CHECKING:
    from qtarget.job.teacher_cache import PreparedCaches
    from qtarget.teacher.cache import CachePart
    from qtarget.teacher.cache.recompute import Recomputation

teacher_app = typer.Typer(no_args_is_help=True, help="Teachers for later: cached on disk, or behind a server.")

CACHE_HELP = """Write what the teachers (and the reference) of a run say about its rows to disk, ahead of the run.

CONFIG.yaml is the run's own, as for `qtarget train`, with the folders to write:

    teacher_cache   folder for the teacher (a list for several)
    reference_cache folder for the reference

    teacher_top_k           likeliest tokens kept at each token (64)
    cache_sampled           keep draws instead, for kd and kd-hybrid
    cache_bytes_per_token   a budget in the place of teacher_top_k
    cache_missing_mass      keep as many tokens as leave this mass out, such as 0.01
    cache_min_k cache_max_k with it, at least (1) and at most (256)
    cache_dtype             float16 or float32
    cache_batch_tokens      tokens through the model at once (8192)
    cache_shard_tokens      tokens in a file (65536)

--dry-run asks the models about a few rows and says what all of it takes: tokens,
bytes, hours, and from how many runs on a cache costs less than a live teacher.

Stopped at any moment, the same command goes on from the last finished shard.
Under `accelerate launch` the processes share the shards. Processes that do not
wait for one another, such as the tasks of a cluster's array, write a part each:
--part 1/8, --part 2/8, ... into the same folder. The last one finishes the cache.
"""


@teacher_app.command(
    "cache",
    context_settings=PASS_KEYS_ON,
    short_help="Write down what a run's teachers say about its rows.",
    help=CACHE_HELP,
)
def cache_command(
    arguments: ConfigArguments = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it takes, and write nothing.")] = False,
    part: Annotated[
        str | None, typer.Option("--part", metavar="I/N", help="Write the Ith of N parts alone.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    from qtarget.job.config.flags import parse_arguments
    from qtarget.job.config.read_job import read_job
    from qtarget.job.teacher_cache import prepare_caches, write_caches

    if as_json and not dry_run:
        raise Refusal("--json is for --dry-run; `qtarget teacher verify FOLDER --json` tells of a cache that is there.")
    if part is not None and dry_run:
        raise Refusal("--part writes a part of a cache, and --dry-run tells of the whole cache; leave one of them out.")
    own = _part_of(part)
    with diverted_noise(), preparation():
        prepared = prepare_caches(read_job(parse_arguments(arguments or [])))
    if dry_run:
        return _show_dry_run(prepared, as_json)
    with noted_warnings():
        write_caches(prepared, own)


def _part_of(text: str | None) -> "CachePart":
    from qtarget.teacher.cache import CachePart
    from qtarget.teacher.cache.parts import WHOLE_CACHE

    try:
        return WHOLE_CACHE if text is None else CachePart.parse(text)
    except ValueError as error:
        raise Refusal(str(error)) from error


def _show_dry_run(prepared: "PreparedCaches", as_json: bool) -> None:
    """Print what caches take; under a launcher, by the first rank for one device."""
    if prepared.rendered.ranks.rank != 0:
        return None
    with diverted_noise():
        from qtarget.job.cache_dry_run import dry_run_caches
        from qtarget.job.cache_dry_run_view import dry_run_view

        with preparation():
            found = dry_run_caches(prepared)
    if as_json:
        return print_json([each.as_json() for each in found])
    SafeConsole().print(dry_run_view(found))


@teacher_app.command("verify")
def verify_command(
    folder: Annotated[Path, typer.Argument(help="Folder of a cache.", show_default=False)],
    against: Annotated[
        str | None, typer.Option(help="A model (directory or hub name) with which some rows are computed again.")
    ] = None,
    rows: Annotated[int, typer.Option(help="Rows that are computed again.", min=1, max=256)] = 8,
    dtype: Annotated[str, typer.Option(help="Of that model: a torch dtype's name, or auto.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Check every hash and number of a cache; show how much of the teacher it captured, and whether a model agrees."""
    from qtarget.job.teacher_cache_view import recomputed_view, report_view
    from qtarget.teacher.cache import verify_cache

    with preparation({"--against": against} if against and "://" not in against else {}):
        report = verify_cache(folder)
        again = None if against is None or report.problems else _recomputed(folder, against, rows, dtype)
    if as_json:
        beside = {} if again is None else {"against": {**asdict(again), "is_same": again.is_same}}
        print_json({**asdict(report), **beside})
    else:
        print_view(report_view, report)
        if again is not None:
            print_view(recomputed_view, again)
    if report.problems or (again is not None and not again.is_same):
        raise typer.Exit(EXIT_FAILED)


def _recomputed(folder: Path, against: str, rows: int, dtype: str) -> "Recomputation":
    with diverted_noise():
        from qtarget.teacher.cache.recompute import recompute

        return recompute(folder, against, rows, dtype)


@teacher_app.command("serve")
def serve_command(
    model: Annotated[str, typer.Argument(help="Directory or hub name of a causal language model.")],
    host: Annotated[str, typer.Option(help="Another than loopback needs QTARGET_TEACHER_TOKEN.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 for any that is free.", min=0, max=65535)] = 8321,
    dtype: Annotated[str, typer.Option(help="A torch dtype's name, or auto for the checkpoint's own.")] = "auto",
    top_k_limit: Annotated[int, typer.Option(help="The most tokens kept of a distribution.", min=0)] = 256,
    batch_tokens: Annotated[int, typer.Option(help="Tokens through the model at once.", min=1)] = 8192,
    waiting: Annotated[int, typer.Option(help="Requests that may wait; more are sent away.", min=0)] = 16,
    allow_pickled_weights: ReadsPickles = False,
) -> None:
    """Answer trainings over HTTP with what a teacher expects at each token."""
    from qtarget.teacher.served.server import open_server
    from qtarget.teacher.served.wire import Limits

    with preparation({"MODEL": model}):
        limits = Limits(top_k_limit, batch_tokens, waiting)
        with noted_warnings():
            server = open_server(model, host, port, dtype, limits, allow_pickled_weights=allow_pickled_weights)
    server.run()
