"""`qtarget demo`, `study` and `lab build`: experiments on the embedded lab."""

from pathlib import Path
from typing import Annotated

import typer

from qtarget.cli.terminal import preparation
from qtarget.console import SafeConsole
from qtarget.disk.place import check_place

experiments_app = typer.Typer()
lab_app = typer.Typer(no_args_is_help=True, help="The embedded lab: small worlds, models and data.")


@experiments_app.command("demo")
def demo_command(
    out: Annotated[Path, typer.Option(help="Folder of models, outcomes, tables and picture.")] = Path("runs/demo"),
    setting: Annotated[
        str | None,
        typer.Option(help="wrong-rows, right-rows or careless.", show_default="the first two", show_choices=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the first training.")] = 0,
    workers: Annotated[
        int | None, typer.Option(help="Processes; each keeps a core busy.", min=1, show_default="2, or 1 on one core")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A smaller run, to see that it works.")] = False,
) -> None:
    """The study in small: tuned arms on the lab, compared at three decodings, in a few minutes on two cores."""
    from qtarget.study.demo.demo_scenes import scene
    from qtarget.study.demo.run_demo import run_demo

    with preparation():
        if setting is not None:
            scene(setting)
        check_place(out, f"`--out {out}`")
    run_demo(out=out, setting=setting, seed=seed, workers=workers, quick=quick)


@experiments_app.command("study")
def study_command(
    results: Annotated[Path, typer.Option(help="Folder of the protocol and a file a run.")] = Path(
        "runs/study/results"
    ),
    models: Annotated[Path, typer.Option(help="Folder of models that do not ship.")] = Path("runs/study/models"),
    workers: Annotated[int, typer.Option(help="Processes; each keeps a core busy.", min=1)] = 1,
    protocol: Annotated[
        str,
        typer.Option(
            help="What is compared: tuned (docs/study.md), beyond, rounds (docs/beyond.md), passes (fewer-passes.md)."
        ),
    ] = "tuned",
    quick: Annotated[bool, typer.Option("--quick", help="One setting, to see that it works.")] = False,
    page: Annotated[Path | None, typer.Option(help="Run nothing; write this page's tables and pictures anew.")] = None,
) -> None:
    """Which target pays when every method is tuned alike: ten arms in thirteen settings of the lab.

    It runs for hours, prints its estimate first, keeps each run as it ends, and goes on from there.
    """
    from qtarget.study.tuned.run_study import check_study_results, rewrite_study_page, run_study, study_of

    if page is not None:
        with preparation():
            return rewrite_study_page(page, results, study_of(protocol, quick))
    with preparation():
        check_place(results, f"`--results {results}`")
        check_place(models, f"`--models {models}`")
        check_study_results(results, study_of(protocol, quick))
    run_study(results, models, workers=workers, protocol=protocol, quick=quick)


@lab_app.command("build")
def build_command(
    world: Annotated[str, typer.Option(help="World of the lab.")] = "weak-operator",
    out: Annotated[Path, typer.Option(help="Directory for the student and the teacher.")] = Path("runs/lab"),
    seed: Annotated[int, typer.Option(help="Seed of the pre-training.")] = 0,
) -> None:
    """Pre-train a world's student and teacher from a seed."""
    from qtarget import lab

    with preparation():
        described = lab.world(world)
        check_place(out, f"`--out {out}`")
    lab.build(described, seed, out)
    SafeConsole(soft_wrap=True).print(f"student and teacher of {world} are in {out}")
