"""The pages tell the truth: links and paths lead somewhere, tables are the code's own."""

import importlib
import re
from pathlib import Path

import pytest
from docs.failure_cases import FAILURE_CASES

import qtarget as qt
from docs import learned_page, recipes_page, reliability_page, scale_page
from qtarget.disk.files import read_json_object
from qtarget.disk.pages import filled, rewrite_page
from qtarget.job.catalogue_page import catalogue_parts

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path):
    prose = re.sub(r"```.*?```|`[^`\n]*`(?!\])", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)  # no code
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", prose)
    assert all((page.parent / link).exists() for link in links), links


def test_the_readmes_count_is_the_catalogues():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"<!-- number: further_count -->{len(qt.METHODS) - 1}<!-- end -->" in text


@pytest.mark.parametrize("page", ["README.md", "docs/methods.md", "docs/which-target.md"])
def test_tables_of_methods_are_the_catalogues(page: str):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert text.count("\n| `") == (0 if page == "README.md" else len(qt.METHODS))
    assert filled(text, catalogue_parts().__getitem__) == text, f"{page} is out of date; run: make docs"


def test_every_method_says_when_to_use_it():
    said = {name: qt.method(name).use_when for name in qt.METHODS}
    assert [name for name, text in said.items() if not 40 <= len(text) <= 240 or not text.endswith(".")] == []
    assert len(set(said.values())) == len(said)


def test_what_is_learned_is_what_validate_shows():
    text = learned_page.PAGE.read_text(encoding="utf-8")
    assert filled(text, learned_page.learned_parts().__getitem__) == text, "out of date; run: make docs"


def test_what_runs_take_at_scale_is_what_the_formula_says():
    text = scale_page.PAGE.read_text(encoding="utf-8")
    assert filled(text, scale_page.scale_parts().__getitem__) == text, "out of date; run: make docs"
    counts = {name: shape.parameters for name, shape in scale_page.SHAPES.items()}
    assert counts["HuggingFaceTB/SmolLM2-135M-Instruct"] == 134_515_008
    assert counts["HuggingFaceTB/SmolLM2-1.7B-Instruct"] == 1_711_376_384
    assert counts["meta-llama/Llama-3.1-70B-Instruct"] == 70_553_706_496


def test_every_failure_case_has_a_test_and_the_page_lists_them():
    tests = reliability_page.marked_tests()
    assert {number for number in FAILURE_CASES if not tests[number]} == set()
    assert set(tests) <= set(FAILURE_CASES) == set(range(1, 27))
    text = reliability_page.PAGE.read_text(encoding="utf-8")
    assert filled(text, reliability_page.reliability_parts().__getitem__) == text, "out of date; run: make docs"


def test_the_recipes_page_says_what_the_estimates_and_the_kept_results_say():
    text = recipes_page.PAGE.read_text(encoding="utf-8")
    assert filled(text, recipes_page.recipes_parts().__getitem__) == text, "out of date; run: make docs"
    chose, cases = recipes_page.same_rate()
    of_rate, of_eta = recipes_page.shared_rate_words()
    assert f"for another method in {chose} of {cases} cases" in of_rate
    found = (ROOT / "docs" / "real-models.md").read_text("utf-8")
    whole = r"(\d) of \1 training seeds are run. At `sampled` the highest average of a trained arm is target-sft-0.5's"
    words = "0.5 had the highest mean of a trained arm in all three settings at temperature 0.7"
    assert (len(re.findall(whole, found)), words in of_eta) == (3, True)


def test_the_page_on_inspect_says_what_its_benchmark_found():
    found = read_json_object(ROOT / "benchmarks" / "results" / "inspect_cost.json", "measure again")
    said = f"it took {found['times_bare']['median']:.2f} times the bare forward passes of student and teacher"
    assert said in (ROOT / "docs" / "inspect.md").read_text(encoding="utf-8")
    assert (found["length"], found["methods"], found["limit_met"]) == (1024, 38, True)
    short, full = read_json_object(ROOT / "benchmarks" / "results" / "inspect_page.json", "measure again")["pages"]
    opened, moved = ([page[what]["median"] / 1000 for page in (short, full)] for what in ("opened_ms", "moved_ms"))
    frames = max(page[what]["p99"] for page in (short, full) for what in ("scrolled_ms", "list_scrolled_ms"))
    text = " ".join((ROOT / "docs" / "inspect.md").read_text(encoding="utf-8").split())
    assert f"a page of {short['rows']} short rows opened in {opened[0]:.2f} s, a full one" in text
    assert f"({full['bytes'] / 1e6:.1f} MB, {full['rows']} rows of 1,024 tokens) in {opened[1]:.2f} s" in text
    assert f"99 of 100 frames came within {frames:.0f} ms while they were scrolled" in text
    assert f"was drawn after {moved[0]:.2f} and {moved[1]:.2f} s" in text


def test_a_page_that_marks_what_the_command_does_not_write_is_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- table: metods -->\n<!-- end -->\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r'page.md marks a part "metods"; this command writes methods, uses'):
        rewrite_page(page, catalogue_parts())


def test_the_study_says_what_its_runs_say():
    from dataclasses import replace

    from qtarget.study.tuned.analysis import finished_settings
    from qtarget.study.tuned.page import study_parts, swept_curves
    from qtarget.study.tuned.protocol import kept_protocol
    from qtarget.study.tuned.run_study import WHOLE

    text, results = (ROOT / "docs" / "study.md").read_text(encoding="utf-8"), ROOT / "benchmarks" / "results" / "study"
    kept = kept_protocol(WHOLE, results)
    assert kept is not None
    study = replace(WHOLE, seeds=kept["seeds"], pretraining_seeds=kept["pretraining_seeds"])
    parts = study_parts(study, finished_settings(study, results), swept_curves(study, results))
    assert filled(text, parts.__getitem__) == text


def test_the_study_page_states_its_protocol():
    """The numbers of its sentences that are no marked parts."""
    from qtarget.study.tuned.design import SWEPT_KNOBS
    from qtarget.study.tuned.estimate import CORES, FEWEST_SEEDS, HOURS, MOST_SEEDS
    from qtarget.study.tuned.run_study import WHOLE
    from qtarget.study.tuned.tuned_arms import COMMON, DECODINGS

    words = {2: "two", 3: "three", 5: "five", 6: "six", 10: "ten", 12: "twelve", 13: "thirteen"}
    noise = f"{100 * max(setting.noise for setting in WHOLE.settings):g} %"
    of = [setting for setting in WHOLE.settings if not setting.is_control]
    kinds = [len({getattr(setting, name) for setting in of}) for name in ("teacher", "student")]
    assert {len(arm.configurations) for arm in WHOLE.arms if arm.method} == {len(DECODINGS)}
    text = " ".join((ROOT / "docs" / "study.md").read_text(encoding="utf-8").split())
    for sentence in (
        f"Average@{WHOLE.samples} at temperature {COMMON.temperature:g} and top_p {COMMON.top_p:g};",
        f"p adjusted by Holm for {words[len(of)]} settings",
        f"tune {words[len(WHOLE.arms)]} arms alike",
        f"in {words[int(HOURS)]} hours on {words[CORES]} cores",
        f"{words[len(of)].title()}: rows without wrong steps, or with {noise} of them wrong; "
        f"{words[kinds[0]]} teachers; {words[kinds[1]]} students",
        f"{words[len(DECODINGS)].title()} configurations for every arm",
        f"among {words[len(DECODINGS)]} decodings",
        f"(η = {SWEPT_KNOBS['target-sft']['eta']:g}, λ = {SWEPT_KNOBS['kd-hybrid']['teacher_weight']:g})",
        f"({words[FEWEST_SEEDS]} to {words[MOST_SEEDS]})",
        f"{words[len(WHOLE.arms)].title()} arms in {words[len(WHOLE.settings)]} settings",
    ):
        assert sentence in text, sentence


def test_the_training_page_knows_every_field_of_the_configuration():
    from dataclasses import fields

    from trl import SFTConfig

    from qtarget.train import TargetSFTConfig

    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    own = {f.name for f in fields(TargetSFTConfig)} - {f.name for f in fields(SFTConfig)}
    assert own - {"reference_dtype", "reference_init_kwargs"} == {name for name in own if f"`{name}`" in text}


NAMED = re.compile(r"`(qt(?:arget)?(?:\.\w+)+)")
"""A dotted name of the package in a page's prose or code."""


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_dotted_names_in_pages_resolve(page: Path):
    found = NAMED.findall(page.read_text(encoding="utf-8"))
    names = {name for name in found if not name.endswith((".py", ".md", ".json"))}
    assert {name for name in names if not _resolves(name)} == set()


def _resolves(name: str) -> bool:
    value: object = qt
    path = "qtarget"
    for part in name.split(".")[1:]:
        path = f"{path}.{part}"
        try:
            value = getattr(value, part) if hasattr(value, part) else importlib.import_module(path)
        except (ImportError, AttributeError):
            return False
    return True


def test_every_interval_that_which_target_gives_stands_in_the_studys_tables():
    said = re.findall(r"[+-][\d.]+ \([+-][\d.]+ … [+-][\d.]+\)", (ROOT / "docs" / "which-target.md").read_text("utf-8"))
    tables = (ROOT / "docs" / "study.md").read_text("utf-8")
    assert len(said) > 10
    assert [each for each in said if each not in tables] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_page_holds_a_merge_that_was_not_finished(page):
    marks = ("<" * 7 + " ", ">" * 7 + " ", "=" * 7 + "\n")
    assert [line for line in page.read_text("utf-8").splitlines(keepends=True) if line.startswith(marks)] == []
