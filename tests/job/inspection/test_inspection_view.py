"""What the terminal says of figures that need a word: a mean over some tokens alone, a trust that is none."""

from dataclasses import replace

import pytest
from job.inspection import looked_at
from rich.console import Console

from qtarget.job.inspection.findings import SurestToken
from qtarget.job.inspection.inspect_job import Inspection, inspect_trainer
from qtarget.job.inspection.view import inspection_view


@pytest.fixture(scope="module")
def made() -> Inspection:
    return inspect_trainer(looked_at.trainer(), 8, 0)


def said(made: Inspection, **changes: object) -> str:
    console = Console(width=100, color_system=None)
    with console.capture() as captured:
        console.print(inspection_view(replace(made, findings=replace(made.findings, **changes))))
    return " ".join(captured.get().split())


def test_a_mean_over_proper_targets_says_of_how_many(made):
    all_of, some, none = made.findings.methods[:3]
    figures = (replace(all_of, proper=1.0), replace(some, proper=0.82), replace(none, proper=0.0))
    assert f"these are not all: {some.name} 82%" in said(made, methods=figures)
    assert "these are not all" not in said(made, methods=figures[:1])


def test_what_was_not_found_is_told_in_words(made):
    words = said(made)
    for line in made.findings.audit.lines:
        assert line.says in words
    for name in ("unlearned,", "end masked", "two begins"):
        assert name not in words


def test_a_trust_beyond_one_is_told_as_none(made):
    method = replace(made.findings.methods[0], mean_trust=2031.649)
    words = said(made, methods=(method,))
    assert "beyond 1 " in words
    assert f"an improper target ({method.name} 2,031.6)" in words


def test_contradicted_labels_are_told_row_by_row_with_how_many_there_are(made):
    number, text = made.findings.rows[3][0], made.table.texts[3]
    first = SurestToken("teacher 0", number, 3, text[2], "w9", 9, 0.001, 0.99, follows=False)
    next_one = replace(first, token=4, label=text[3], follows=True)
    words = said(made, surest=(first, next_one) * 5, contradictions=18, teacher="far/teacher")
    assert "far/teacher" in words
    assert "18 labels contradicted in the 8 rows that were read, the 8 surest" in words
    told = f"row {number} {''.join(text[:2]).strip()}⟦{text[2]}⟧ 0.001, not ⟦w9⟧ 0.99"
    assert words.count(told) == 4
    assert words.count("0.99, after an earlier contradicted token of its row") == 4


def test_tokens_of_an_audit_are_told_with_the_rows_that_they_are_of(made):
    audit = made.findings.audit
    assert "in the first" not in said(made)
    words = said(made, audit=replace(audit, rows=20_000, looked=10_000))
    assert f"20,000 training rows, from 1; in the first 10,000: {audit.tokens} tokens, {audit.learned} learned" in words
