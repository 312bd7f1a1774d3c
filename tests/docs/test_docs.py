"""The pages tell the truth: links and paths lead somewhere, tables are the code's own."""

import re
from pathlib import Path

import pytest

import qtarget as qt
from qtarget.job.method_pages import entries

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path):
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert all((page.parent / link).exists() for link in links), links


def test_the_readmes_table_is_the_catalogue():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for entry in entries():
        row = f"| `{entry.name}` | {entry.trust} | {entry.residual} | {', '.join(entry.needs)} | {entry.source} |"
        assert row.replace("  ", " ") in text
    assert text.count("| `") == len(qt.METHODS)


def test_the_study_says_what_its_runs_say():
    from qtarget.study.miniature.analysis import cells, load_outcomes
    from qtarget.study.miniature.page import study_tables, sweep_tables
    from qtarget.study.miniature.settings import STUDY, SWEEP
    from qtarget.study.pages import filled

    text, results = (ROOT / "docs" / "study.md").read_text(encoding="utf-8"), ROOT / "benchmarks" / "results" / "study"
    tables = study_tables(STUDY, load_outcomes(STUDY, results), load_outcomes(STUDY, results, "development"))
    tables |= sweep_tables(cells(SWEEP, load_outcomes(SWEEP, results)))
    assert filled(text, tables.__getitem__) == text


def test_the_training_page_knows_every_field_of_the_configuration():
    from dataclasses import fields

    from trl import SFTConfig

    from qtarget.train import TargetSFTConfig

    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    own = {f.name for f in fields(TargetSFTConfig)} - {f.name for f in fields(SFTConfig)}
    assert own - {"reference_dtype", "reference_init_kwargs"} == {name for name in own if f"`{name}`" in text}
