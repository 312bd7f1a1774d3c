"""`qtarget study-real`: the study on pre-trained language models."""

from pathlib import Path
from typing import Annotated

import typer

from qtarget.cli.terminal import preparation
from qtarget.console import SafeConsole
from qtarget.disk.place import check_place

real_app = typer.Typer()


@real_app.command("study-real")
def study_real_command(
    protocol: Annotated[str, typer.Option(help="whole, quick, or a YAML file.")] = "whole",
    results: Annotated[Path, typer.Option(help="Folder of one file a unit.")] = Path("runs/study-real/results"),
    work: Annotated[Path, typer.Option(help="Folder of models and caches.")] = Path("runs/study-real/work"),
    model: Annotated[list[str] | None, typer.Option(help="NAME=PLACE: weights of a hub's model are there.")] = None,
    rows: Annotated[list[str] | None, typer.Option(help="NAME=FOLDER: rows of a hub's data set are there.")] = None,
    setting: Annotated[list[str] | None, typer.Option(help="Only this setting.", show_default="all")] = None,
    hours: Annotated[float | None, typer.Option(help="Begin no unit after so many.", min=0.01)] = None,
    workers: Annotated[int, typer.Option(help="Units at once, each in processes of its own.", min=1)] = 1,
    batch_size: Annotated[int | None, typer.Option(help="Completions at once.", min=1, show_default="eval's")] = None,
    bf16: Annotated[bool, typer.Option(help="bfloat16 as on a GPU, on a CPU as well.")] = False,
    page: Annotated[Path | None, typer.Option(help="Run nothing; write this page's tables anew.")] = None,
) -> None:
    """Real language models: each arm trained, evaluated and kept, one after the other.

    It runs for hours on a CPU, prints its estimate first, and goes on where it was stopped. PLACE is a folder or a
    GGUF file; without it the hub is asked.
    """
    from qtarget.study.real_models.real_page import write_real_page
    from qtarget.study.real_models.real_protocol import read_protocol
    from qtarget.study.real_models.real_study import RealStudy
    from qtarget.study.real_models.run_real import check_settings, check_study, named_places, run_real_study
    from qtarget.study.real_models.unit_files import check_one_protocol

    with preparation():
        asked = read_protocol(protocol)
        if page is not None:
            check_one_protocol(asked, results)
            return write_real_page(page, asked, results)
        check_place(results, f"`--results {results}`")
        check_place(work, f"`--work {work}`")
        folders = {name: Path(place) for name, place in named_places(rows or [], "--rows").items()}
        study = RealStudy(asked, results, work, named_places(model or [], "--model"), folders, batch_size, bf16)
        check_settings(setting or [], asked)
        check_study(study)
    run_real_study(study, setting or [], hours, workers)
    SafeConsole(soft_wrap=True).print(f"results are in {results}")
