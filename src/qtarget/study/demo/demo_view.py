"""The demo's tables for a terminal of 80 columns."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qtarget.evaluate.compare.view import average_text, difference_cells, legend
from qtarget.evaluate.run.results import TRUNCATED
from qtarget.study.demo.demo_scenes import BASELINE, RIVAL, Scene
from qtarget.study.demo.demo_scores import DemoTable
from qtarget.study.tuned.design import TunedStudy
from qtarget.study.tuned.tuned_arms import COMMON, OURS, Configuration, Decoding


def scene_heading(scene: Scene, study: TunedStudy, quick: bool = False) -> RenderableType:
    """What is shown, with how much of everything, and how each arm is trained."""
    sizes = (
        f"{study.demonstrations} rows; each arm is trained {study.seeds} times, and answers {study.test} held-out "
        f"questions, each once at temperature 0 and {study.samples} times at others."
    )
    chosen = (
        f"Learning rate, steps and knobs are what the study (docs/study.md) chose in its setting {scene.nearest.name}"
    )
    end = "; this quick run takes a fiftieth of the steps, so its figures mean nothing." if quick else ":"
    return Group(
        Text.assemble("\n", (scene.name, "bold"), f"  {scene.sentence}"),
        Text(sizes), Text(chosen + end), _trained_table(scene, study),
    )  # fmt: skip


def _trained_table(scene: Scene, study: TunedStudy) -> Table:
    grid = _bare_grid("arm", "learning rate", "steps")
    grid.add_column("with")
    for arm in (arm for arm in study.arms if arm.method is not None):
        configuration, decoding = scene.chosen[arm.name]
        assert configuration is not None
        own = f"the same models, answers drawn at {decoding_words(decoding)}"
        rate = configuration.rate * scene.setting.world.learning_rate
        cells = ["", "", own] if arm.tunes_decoding else [f"{rate:g}", f"{configuration.steps}", _knobs(configuration)]
        grid.add_row(arm.name, *cells)
    return grid


def _knobs(configuration: Configuration) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in configuration.knobs.items())


def decoding_words(decoding: Decoding) -> str:
    """A decoding in words."""
    return f"temperature {decoding.temperature:g}" + (f", top_p {decoding.top_p:g}" if decoding.top_p < 1 else "")


def scene_view(tables: Sequence[DemoTable]) -> RenderableType:
    """A table for each decoding; intervals, p and marks are those of `qtarget compare`."""
    return Group(*(block for table in tables for block in _blocks(table)))


def _blocks(table: DemoTable) -> list[RenderableType]:
    primary = "  (the study's primary outcome)" if table.decoding == COMMON else ""
    heading = Text.assemble("\n", (f"at {decoding_words(table.decoding)}", "bold"), (primary, "dim"))
    grid = _bare_grid("arm", "% right", f"minus {BASELINE}", "p")
    for score in table.scores:
        cells = [Text(""), Text("")]
        if score.against is not None:
            against = score.against
            cells = difference_cells(against.comparison.difference, against.p_holm, against.is_clear)
        grid.add_row(score.arm, average_text(score.average), *cells)
    difference, p = difference_cells(table.rival.comparison.difference, table.rival.p_holm, table.rival.is_clear)
    return [heading, grid, Text(f"{OURS} minus {RIVAL}: {difference.plain.strip()}, p {p.plain}"), *_cut_off(table)]


def _cut_off(table: DemoTable) -> list[RenderableType]:
    found = [score for score in table.scores if score.truncated_share > TRUNCATED]
    said = ", ".join(f"{score.arm} {100 * score.truncated_share:.0f} %" for score in found)
    return [Text(f"! answers cut off at the length limit: {said}", style="yellow")] if found else []


def closing_lines(study: TunedStudy) -> RenderableType:
    """What the numbers are, and what they are not."""
    compared = sum(arm.name != BASELINE for arm in study.arms) + 1
    limits = (
        f"! {study.seeds} trainings of one pre-trained student: another student moves the figures by more than these "
        "intervals say. docs/study.md has five students of each kind, ten arms and thirteen settings, and no clear "
        "winner."
    )
    said = legend("question and training seed", compared)
    return Group(Text(f"\n{said} The last line of a table is not adjusted.", style="dim"), Text(limits, style="yellow"))


def _bare_grid(first: str, *others: str) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column(first, no_wrap=True)
    for head in others:
        table.add_column(head, justify="right", no_wrap=True)
    return table
