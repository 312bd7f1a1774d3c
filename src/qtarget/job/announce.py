"""What `qtarget train` prints before the first step and after the last."""

import importlib.util
from pathlib import Path

from rich.text import Text

from qtarget.console import SafeConsole
from qtarget.job.build import METRICS, JobTrainer
from qtarget.job.facts import DataFacts
from qtarget.job.method_pages import method_entry
from qtarget.job.training_picture import PICTURE
from qtarget.target.hyperparameter_words import setting_words


def announce_run(trainer: JobTrainer) -> None:
    """Print objective, model, rows, precision and output directory, on the first rank."""
    if not trainer.is_world_process_zero():
        return
    facts, method = trainer.facts, trainer.facts.job.method
    formula = method_entry(method).formula
    values = ", ".join(f"{name} = {setting_words(value)}" for name, value in method.hyperparameters.items())
    lines = {
        "objective": f"{method.name}{f' ({values})' if values else ''}: {formula}",
        "model": facts.job.given["model"],
        "rows": f"{facts.train.counts.sentence()}, from {facts.train.source}{_digest(facts.train)}",
        "form": facts.train.counts.form,
        **{f"note {index}": note for index, note in enumerate(facts.train.remarks, 1)},
        "precision": facts.precision,
        "output": str(facts.job.output),
        "resumes": str(trainer.start.newest or ""),
        "skipped": ", ".join(map(str, trainer.start.skipped)),
    }
    for name, text in lines.items():
        if text:
            SafeConsole(soft_wrap=True).print(Text.assemble((f"{name:<10}", "dim"), text))


def _digest(data: DataFacts) -> str:
    return f" (sha256 {data.sha256[:12]})" if data.sha256 else ""


def announce_result(trainer: JobTrainer) -> None:
    """Print the last losses and where the results are, on the first rank."""
    if not trainer.is_world_process_zero():
        return
    output = Path(str(trainer.args.output_dir))
    for part, values in trainer.measures().items():
        shown = ", ".join(f"{name} {values[name]:.4f}" for name in ("loss", "nll") if name in values)
        if shown:
            SafeConsole(soft_wrap=True).print(f"{part:<10}{shown}")
    picture = f", a picture in {output / PICTURE}" if (output / PICTURE).is_file() else ""
    if not picture and importlib.util.find_spec("matplotlib") is None:
        picture = "; no picture, as matplotlib is not installed"
    text = f"model and card are in {output}, all figures in {output / METRICS}{picture}"
    SafeConsole(soft_wrap=True).print(Text(text))
