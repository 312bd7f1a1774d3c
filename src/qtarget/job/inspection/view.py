"""What `qtarget inspect` prints: audit, methods side by side, words by kind, teacher, evidence."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

import qtarget as qt
from qtarget.console import visible
from qtarget.job.inspection.findings import Findings, MethodFigures, SurestToken
from qtarget.job.inspection.inspect_job import Inspection
from qtarget.job.inspection.row_evidence import RowStatistic
from qtarget.job.inspection.token_table import CONFLICT, CONTRADICTION
from qtarget.job.inspection.token_texts import said_before, shown_token
from qtarget.target.hyperparameter_words import setting_words
from qtarget.target.hyperparameters import hyperparameters

SURE_SHOWN = 8
ALWAYS_SET = ("target-sft", "kd-hybrid", "beyond-log")
"""Methods whose first hyperparameter stands beside their name."""
CONTEXT = 54
"""Characters of what is said before a token."""


def inspection_view(inspection: Inspection) -> RenderableType:
    """Everything, at 80 columns or more."""
    found = inspection.findings
    parts: list[Any] = [*_audit(found), *_methods(found)]
    parts += [*_kinds(found), *(_teachers(inspection) if found.teachers else ()), *_evidence(found)]
    return Group(*parts)


def _heading(title: str, remark: str = "") -> Text:
    return Text.assemble("\n", (title, "bold"), "  ", (remark, "dim"))


def _grid(*columns: str) -> Table:
    """Headed columns: words at the left, figures at the right."""
    columns = (f"  {columns[0]}", *columns[1:])
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for place, name in enumerate(columns):
        table.add_column(name, justify="left" if place == 0 else "right", no_wrap=place > 0)
    return table


def _audit(found: Findings) -> Iterator[Any]:
    audit = found.audit
    inside = f"in the first {audit.looked:,}: " if audit.looked < audit.rows else ""
    tokens = f"{inside}{audit.tokens:,} tokens, {audit.learned:,} learned"
    yield _heading("audit", f"{audit.rows:,} training rows, from 1; {tokens}")
    clean = [line for line in audit.lines if not line.count]
    for line in audit.lines:
        if line.count:
            named = _named(found, line.numbers[:6]) + (" …" if line.count > 6 else "")
            rows = f"  (training rows {named})" if line.numbers else ""
            yield Text(f"  {line.count:,} of {line.of:,} rows {line.says}{rows}", style="yellow")
    if clean:
        says = "; ".join(line.says for line in clean)
        yield Padding(Text(f"looked for and not found: rows that {says}", style="dim"), (0, 0, 0, 2))
    least, most = (_named(found, numbers) for numbers in (audit.least, audit.most))
    yield Padding(Text(f"learn least: rows {least}; learn most: rows {most}", style="dim"), (0, 0, 0, 2))
    if found.places and _are_lines(found):
        file = next(iter(found.places.values())).rpartition(", ")[0]
        yield Padding(Text(f"training row N is line N of {file}", style="dim"), (0, 0, 0, 2))


def _are_lines(found: Findings) -> bool:
    """Whether rows have the numbers of their lines, in one file."""
    files = {place.rpartition(", ")[0] for place in found.places.values()}
    return len(files) == 1 and all(place.endswith(f", line {number}") for number, place in found.places.items())


def _named(found: Findings, numbers: Sequence[int]) -> str:
    """Rows by number, each with its place in its file where that does not follow from the number."""
    places = {} if _are_lines(found) else found.places
    return ", ".join(f"{number} ({places[number]})" if number in places else str(number) for number in numbers)


def _methods(found: Findings) -> Iterator[Any]:
    yield _heading("methods side by side", f"{found.sample_words}, {found.tokens:,} learned tokens")
    contradicted = ["contra-"] * any(each.contradicted_share is not None for each in found.methods)
    table = _grid("method", "trust", "pull", "tokens", "conflict", *contradicted, "KL(Q‖p)")
    for each in found.methods:
        against = [] if each.contradicted_share is None else [f"{each.contradicted_share:.1%}"]
        style = "bold" if each.name == found.configured else ""
        name = Text(f"  {each.name}{_settings(each)}", style=style)
        numbers = [_trust(each), f"{each.gradient_beside_sft:.2f}×", f"{each.effective_tokens:,.0f}"]
        improper = "improper" if each.mean_kl != each.mean_kl else f"{each.mean_kl:.3f}"
        table.add_row(name, *numbers, f"{each.conflict_share:.1%}", *against, improper)
    yield table
    yield Text(
        "  trust: mean γ; pull: gradient beside sft's; tokens: as many of equal pull;\n"
        f"  conflict: share of the pull on tokens with p_y < {CONFLICT[0]:g} and entropy < {CONFLICT[1]:g} nat"
        + (f";\n  contra-: on those that the teacher contradicts (t_y < {CONTRADICTION[0]:g}, another ≥ "
           f"{CONTRADICTION[1]:g})" if contradicted else ""),
        style="dim",
    )  # fmt: skip
    for told in (*_beyond(found), *_changed(found)):
        yield Padding(Text(told, style="dim"), (0, 0, 0, 2))
    for reason in dict.fromkeys(found.closed.values()):
        names = ", ".join(name for name, why in found.closed.items() if why == reason)
        yield Padding(Text(f"not shown: {names}: {reason}", style="dim"), (0, 0, 0, 2))


def _trust(each: MethodFigures) -> str:
    return f"{each.mean_trust:.3f}" if each.mean_trust <= 1 else "beyond 1"


def _beyond(found: Findings) -> Iterator[str]:
    """Of methods whose targets are improper at some tokens, what their trust and divergence are over."""
    if beyond := [f"{each.name} {each.mean_trust:,.1f}" for each in found.methods if each.mean_trust > 1]:
        yield f"trust beyond 1 is none: the label gets more than all mass, an improper target ({', '.join(beyond)})"
    if partly := [f"{each.name} {each.proper:.0%}" for each in found.methods if 0 < each.proper < 0.995]:
        yield f"KL(Q‖p) is the mean over tokens with a proper target, where these are not all: {', '.join(partly)}"


def _settings(each: MethodFigures) -> str:
    """The number that a method of `ALWAYS_SET` is known by, where it is one."""
    value = next(iter(each.hyperparameters.values()), None)
    return f" ({setting_words(value)})" if each.name in ALWAYS_SET and isinstance(value, int | float) else ""


def _changed(found: Findings) -> Iterator[str]:
    """What methods are set to besides their defaults, and at which progress figures hold that change with it."""
    for each in found.methods:
        known = hyperparameters(qt.METHODS[each.name])
        changed = [one.name for one in known if each.hyperparameters[one.name] != one.default]
        if changed:
            words = (f"{name} = {setting_words(each.hyperparameters[name])}" for name in changed)
            yield f"{each.name} with {', '.join(words)}"
    if moving := [each for each in found.methods if each.progress is not None]:
        names, verb = " and ".join(each.name for each in moving), "changes" if len(moving) == 1 else "change"
        at = setting_words(moving[0].progress)
        yield f"of {names}, which {verb} along a run, these figures are those at progress {at}"


def _kinds(found: Findings) -> Iterator[Any]:
    yield _heading("words by kind", "loss in nats; a remark means that the rows may have a fault")
    table = _grid("kind", "tokens", "mean", "median", "remark")
    for each in found.kinds:
        name, remark = (Text(text, style="yellow" if each.remark else "") for text in (f"  {each.kind}", each.remark))
        table.add_row(name, f"{each.tokens:,}", f"{each.mean_nll:.2f}", f"{each.median_nll:.2f}", remark)
    yield table


def _teachers(inspection: Inspection) -> Iterator[Any]:
    found = inspection.findings
    yield _heading("teacher", f"over the same tokens{f'; “{visible(found.teacher)}”' if found.teacher else ''}")
    table = _grid("source", "its loss", "model's", "shared mass", "same top", "contradicts", "kept mass")
    for each in found.teachers:
        numbers = [f"{each.nll:.2f}", f"{each.student_nll:.2f}", f"{each.overlap:.2f}", f"{each.agrees:.0%}"]
        name = "teacher" if each.name == "teacher 0" and len(inspection.table.teachers) == 1 else each.name
        table.add_row(f"  {name}", *numbers, f"{each.contradicted:.1%}", f"{each.captured:.2%}")
    yield table
    for warning in inspection.thin_teachers:
        yield Padding(Text(warning, style="yellow"), (0, 0, 0, 2))
    if found.surest:
        named = _named(found, list(dict.fromkeys(each.row for each in found.surest)))
        yield Padding(Text.assemble((_of_how_many(found), "dim"), f" Rows: {named}."), (0, 0, 0, 2))
    for each in found.surest[:SURE_SHOWN]:
        yield Padding(_sure_lines(inspection, each), (0, 0, 0, 2))


def _of_how_many(found: Findings) -> str:
    shown = min(SURE_SHOWN, len(found.surest))
    of = f"the {shown} surest, row by row; the page has all" if shown < found.contradictions else "row by row"
    return (
        f"{found.contradictions:,} labels contradicted in the {len(found.rows):,} rows that were read, {of}. A label "
        "is wrong, or the teacher is, or an answer had gone wrong before."
    )


def _sure_lines(inspection: Inspection, each: SurestToken) -> Text:
    """A contradicted label in what is said there, and below it what the teacher would have."""
    table, row = inspection.table, [number for number, _ in inspection.findings.rows].index(each.row)
    before = shown_token(said_before(table.texts[row], table.said[row], each.token - 1, CONTEXT))
    name = _named(inspection.findings, [each.row])
    return Text.assemble(
        (f"row {name:<6} ", "dim"),
        (before, "dim"),
        (f"⟦{shown_token(each.label)}⟧", "red"),
        f"\n{'':11}{each.p_label:.3f}, not ",
        (f"⟦{shown_token(each.instead)}⟧ ", "green"),
        f"{each.p_instead:.2f}",
        (", after an earlier contradicted token of its row" if each.follows else "", "dim"),
    )


def _evidence(found: Findings) -> Iterator[Any]:
    yield _heading("evidence", "95 % intervals over rows; the page says what each has been seen with")
    table = _grid("statistic", "value", "interval")
    for each in found.statistics:
        table.add_row(f"  {each.says}", f"{each.value:.3f}", _interval(each))
    yield table
    yield Text("  to pilot, on questions that are not the test's:", style="dim")
    for each in found.candidates:
        line = each.line.replace("\n", ", ")
        yield Padding(Text.assemble((f"{line}: ", "bold"), each.why), (0, 0, 0, 2))


def _interval(each: RowStatistic) -> str:
    return "too few rows" if each.interval is None else f"{each.interval.low:.3f} … {each.interval.high:.3f}"
