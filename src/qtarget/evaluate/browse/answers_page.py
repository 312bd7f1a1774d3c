"""Questions and their answers as one HTML file, which needs nothing else and runs nothing.

Whatever a model wrote is text here: it is escaped, its control characters are spelled out, and the page's content
security policy lets no script run, no style but the page's own count, and nothing be fetched.
"""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import get_args

from qtarget.console import visible
from qtarget.disk.files import replace_text
from qtarget.disk.place import check_place
from qtarget.evaluate.browse.question_answers import AnswersReport, QuestionAnswers, RunHeading, SamplePair
from qtarget.evaluate.browse.verdict_words import GRADE_WORDS, Only, length, verdict
from qtarget.evaluate.nouns import Record

_FILTERS = "".join(
    f"body:has(#only-{word}:checked) :is(article, .pair):not(.has-{word}) {{ display: none; }}\n"
    for word in get_args(Only)
)


def check_page(page: Path) -> None:
    """Refuse a page that cannot be written, or a name that is no page's.

    Raises:
        ValueError: a name without .html, a folder of that name, or a place that cannot be written to.
    """
    if page.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--page {page} is to be a page of HTML; write --page {page.with_suffix('.html')}.")
    if page.is_dir():
        raise ValueError(f"--page {page} is a folder; write --page {page / 'answers.html'}.")
    check_place(page.parent, f"`--page {page}`: its folder {page.parent}")


def write_answers_page(page: Path, report: AnswersReport) -> None:
    """Write the page, in the place of an older one."""
    page.parent.mkdir(parents=True, exist_ok=True)
    replace_text(page, answers_page(report))


def answers_page(report: AnswersReport) -> str:
    """The page's text."""
    style = files("qtarget.evaluate.browse").joinpath("answers_page.css").read_text(encoding="utf-8") + _FILTERS
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    title = _text("Answers: " + " and ".join(run.name for run in report.runs))
    two = " two" if len(report.runs) > 1 else ""
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="referrer" content="no-referrer">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title>\n<style>{style}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>",
        f'<div class="runs{two}">{"".join(_runs(report))}</div>',
        *(f'<p class="soft">{_text(remark)}</p>' for remark in report.remarks),
        f'<p class="soft">{_count(report)}</p>\n{_choice(report)}\n</header>\n<main>',
        *(_question(question, place == 0, report.runs) for place, question in enumerate(report.questions)),
        "</main>\n</body>\n</html>\n",
    ]
    return "\n".join(parts)


def _text(text: str) -> str:
    """Text that stands in HTML as what it is, between tags and in quotes; nothing in it commands a browser."""
    return escape(visible(text), quote=True)


def _runs(report: AnswersReport) -> Iterator[str]:
    for run in report.runs:
        scores = "<br>".join(_text(score) for score in run.scores)
        yield f'<div class="run"><strong>{_text(run.name)}</strong><br>{_text(run.model)}<br>{scores}</div>'


def _count(report: AnswersReport) -> str:
    shown, total = len(report.questions), report.total
    more = f" (write --limit {total} for all)" if shown < total else ""
    return f"{shown:,} of {total:,} questions{more}, those first that are answered worst or differ most."


def _choice(report: AnswersReport) -> str:
    words = [word for word in get_args(Only) if word != "differ" or len(report.runs) > 1]
    boxes = [
        f'<label><input type="radio" name="only" id="only-{word}"{" checked" if word == "all" else ""}> {word}</label>'
        for word in ["all", *words]
    ]
    return f"<fieldset><legend>samples</legend>{''.join(boxes)}</fieldset>"


def _question(question: QuestionAnswers, is_open: bool, runs: Sequence[RunHeading]) -> str:
    own = question.question
    counts = " and ".join(f"{right} of {asked}" for right, asked in zip(question.right, question.asked, strict=True))
    kinds = dict.fromkeys(kind for pair in question.pairs for kind in _kinds(pair))
    samples = f"{len(question.pairs)} sample{'s' if len(question.pairs) > 1 else ''}"
    pairs = "\n".join(_pair(pair, runs) for pair in question.pairs)
    return (
        f'<article class="{" ".join(kinds)}">\n'
        f'<h2>{_text(own.qid)} <span class="soft">{_text(question.task)}, {counts} right</span></h2>\n'
        f'<pre class="question" dir="auto">{_text(own.text)}</pre>\n'
        f"<p>gold: {', or '.join(f'<bdi>{_text(gold)}</bdi>' for gold in own.answers)}</p>\n"
        f"<details{' open' if is_open else ''}><summary>{samples}</summary>\n{pairs}\n</details>\n"
        "</article>"
    )


def _kinds(pair: SamplePair) -> list[str]:
    return [f"has-{word}" for word in [*dict.fromkeys(pair.words), *(["differ"] if pair.differ else [])]]


def _pair(pair: SamplePair, runs: Sequence[RunHeading]) -> str:
    """Samples of the same number side by side; where the window is narrow, below one another, each with its run."""
    if len(runs) == 1:
        return f'<div class="pair {" ".join(_kinds(pair))}">{_sample(pair.records[0], "")}</div>'
    samples = [_sample(record, run.name) for record, run in zip(pair.records, runs, strict=True)]
    return f'<div class="pair two {" ".join(_kinds(pair))}">{"".join(samples)}</div>'


def _sample(record: Record | None, run: str) -> str:
    of = f'<span class="of-run"> of {_text(run)}</span>' if run else ""
    if record is None:
        return f'<div class="sample soft">no sample{of}</div>'
    note = f'<p class="soft note">note: <bdi>{_text(record.grade_note)}</bdi></p>' if record.grade_note else ""
    return (
        f'<div class="sample {GRADE_WORDS[record.grade]}"><p class="verdict">{_text(verdict(record))}</p>'
        f'<span class="soft">sample {record.sample_i}{of}, {length(record)}</span>{note}'
        f'<pre dir="auto">{_text(record.completion)}</pre></div>'
    )
