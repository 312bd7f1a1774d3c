"""The page's own targets, computed by node, are those of `qt.target_distribution`."""

import json
import shutil
import subprocess
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job.inspection import looked_at
from job.inspection.stored_targets import ALL, SETTINGS, from_stored

import qtarget as qt
from qtarget.job.inspection import measured_rows as measured_rows_module
from qtarget.job.inspection.html_page import page_store as page_store_module
from qtarget.job.inspection.html_page.page_store import page_store
from qtarget.job.inspection.html_page.target_page import LIVE_FILES
from qtarget.job.inspection.inspect_job import Inspection, inspect_trainer
from qtarget.job.inspection.likeliest_tokens import Keeping
from qtarget.job.inspection.open_methods import WHY_NOT_MOVED, not_moved
from qtarget.target.hyperparameter_words import setting_words

CUT = Keeping(12, 0.9)
CODE = [str(files("qtarget.job.inspection.html_page").joinpath(name)) for name in LIVE_FILES]
RUN = 'require("node:vm").runInThisContext(require("node:fs").readFileSync({}, "utf8")); '
LOADED = "".join(RUN.format(json.dumps(each)) for each in CODE)


@cache
def inspection(beside: str, keep: Keeping) -> Inspection:
    """A small run, in double precision so that stored numbers are right to single precision."""
    built = looked_at.trainer() if beside == "teacher" else looked_at.reference_trainer()
    built.model.double()
    for source in built.sources.values():
        source.model.double()
    return inspect_trainer(built, 8, 0, keep)


@cache
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("node runs the page's code outside a browser, and is not installed")
    return found


@cache
def twins() -> list[str]:
    """Methods that the page can compute by itself; of others it shows what was measured."""
    script = f"{LOADED}console.log(JSON.stringify(LiveTarget.METHODS))"
    return json.loads(subprocess.run([node(), "-e", script], capture_output=True, text=True, check=True).stdout)


def test_every_method_is_moved_by_the_page_or_said_not_to_be():
    assert set(twins()) == set(qt.METHODS) - set(not_moved())
    assert set(WHY_NOT_MOVED) <= set(not_moved())


WORDED = [
    None, True, False, 1, 0.25, -3, 1e-5, 1e-4, 2.5e-7, 1e12, 123456789012.0, 1 / 3, 0.0, 1e21, "p_y", "log_k",
    [0.1, 0.2], [{"from": 1, "to": 0}, 0.5], {"from": 0.2, "to": 0.8},
    {"from": 1, "to": "p_y", "until": 0.5}, {"from": 0, "to": 1, "along": "position", "shape": "cosine"},
    {"from": 1, "to": {"from": 0.5, "to": 0.1, "along": "entropy"}, "until": 1e-3, "shape": "linear"},
]  # fmt: skip


def test_the_page_tells_a_setting_made_by_hand_in_the_words_of_everything_else():
    script = f"{LOADED}console.log(JSON.stringify({json.dumps(WORDED)}.map(LiveTarget.settingWords)))"
    said = json.loads(subprocess.run([node(), "-e", script], capture_output=True, text=True, check=True).stdout)
    assert said == [setting_words(each) for each in WORDED]


def cases(beside: str) -> list[tuple[str, dict[str, Any]]]:
    """Methods that a run with these sources can show, with defaults and other settings."""
    ties = (
        ("excess-loss-selected",) if beside == "teacher" else ()
    )  # all excess is 0 where the student is the reference
    closed = inspection(beside, ALL).found.open.closed
    names = [
        n
        for n in (*twins(), *not_moved())
        if n not in closed and (beside == "teacher" or "teacher" not in qt.method(n).needs) and n not in ties
    ]
    return [(name, settings) for name in names for settings in [{}, *SETTINGS.get(name, [])]]


@cache
def by_node(beside: str, keep: Keeping) -> tuple[dict, list[dict]]:
    """The store, and what node makes of every case: one run for each kind of source."""
    made = inspection(beside, keep)
    store = page_store(made).data
    assert json.loads(json.dumps(store)) == store
    defaults = {each["name"]: each["settings"] for each in store["methods"]}
    store["methods"] = [
        {"name": name, "settings": [{"name": key, "value": value} for key, value in {
            **{each["name"]: each["value"] for each in defaults[name]}, **settings}.items()]}
        for name, settings in cases(beside)
    ]  # fmt: skip
    script = Path(__file__).with_name("page_targets.js")
    results = []
    for one in store["methods"]:
        looked_at.SCRATCH.joinpath("store.json").write_text(json.dumps({**store, "methods": [one]}))
        said = subprocess.run(
            [node(), str(script), str(looked_at.SCRATCH / "store.json"), *CODE],
            capture_output=True,
            text=True,
            check=True,
        )
        results.append(json.loads(said.stdout)["targets"][one["name"]])
    return store, results


@pytest.mark.parametrize("beside", ["teacher", "reference"])
def test_every_target_is_the_definitions_where_all_tokens_are_kept(beside: str):
    store, results = by_node(beside, ALL)
    for (name, settings), tokens in zip(cases(beside), results, strict=True):
        expected = from_stored(inspection(beside, ALL), name, settings)
        for token, (q, trust, scale) in zip(tokens, expected, strict=True):
            size = max(1.0, abs(float(trust)))
            assert len(token["ids"]) == store["vocabulary"]
            assert np.abs(np.array(token["q"]) - q[token["ids"]].numpy()).max() <= 1e-6 * size, (name, settings)
            assert token["trust"] == pytest.approx(float(trust), abs=1e-6, rel=1e-5)
            assert token["scale"] == pytest.approx(float(scale), abs=1e-6)


@pytest.mark.parametrize("beside", ["teacher", "reference"])
def test_of_fewer_tokens_every_target_is_within_its_bound(beside: str):
    _, results = by_node(beside, CUT)
    bounds = []
    for (name, settings), tokens in zip(cases(beside), results, strict=True):
        expected = from_stored(inspection(beside, ALL), name, settings)
        for token, (q, trust, _) in zip(tokens, expected, strict=True):
            off = np.abs(np.array(token["q"]) - q[token["ids"]].numpy())
            assert (off <= np.array(token["bound"]) + 2e-6 * max(1.0, abs(float(trust)))).all(), (name, settings)
            bounds.append(max(token["bound"]))
    assert max(bounds) > 1e-3  # the test would see a bound that is too small


@pytest.mark.parametrize("beside", ["teacher", "reference"])
def test_of_fewer_tokens_pull_and_divergence_are_within_their_bounds(beside: str):
    few, whole = (by_node(beside, keep)[1] for keep in (CUT, ALL))
    loose, least = [], 0
    for case, cut, full in zip(cases(beside), few, whole, strict=True):
        for token, exact in zip(cut, full, strict=True):
            assert abs(token["gradient"] - exact["gradient"]) <= token["gradientOff"] + 3e-5 * max(
                1, exact["gradient"]
            ), case
            loose.append(token["gradientOff"])
            if token["kl"] is None or exact["kl"] is None:
                continue
            assert token["kl"] - token["klOff"] <= exact["kl"] + 2e-5, case
            least += token["klIsLeast"]
            if not token["klIsLeast"]:
                assert abs(token["kl"] - exact["kl"]) <= token["klOff"] + 1e-3, case
    assert max(loose) > 1e-3
    assert least > 0


def test_at_the_runs_own_settings_the_targets_of_few_tokens_are_exact_and_between_they_are_bound_closely():
    made = inspection("teacher", CUT)
    _, results = by_node("teacher", CUT)
    of = {
        json.dumps([name, settings]): tokens for (name, settings), tokens in zip(cases("teacher"), results, strict=True)
    }
    own, between = of[json.dumps(["target-sft", {}])], of[json.dumps(["target-sft", {"eta": 0.1}])]
    assert made.found.open.methods["target-sft"].hyperparameters["eta"] == 0.5
    assert max(max(token["bound"]) for token in own) < 1e-6
    for token, (q, _, _) in zip(own, from_stored(inspection("teacher", ALL), "target-sft", {}), strict=True):
        assert np.abs(np.array(token["q"]) - q[token["ids"]].numpy()).max() <= 2e-6
    assert 0 < max(max(token["bound"]) for token in between) < 0.05
    for eta in (0.0, 1.0):  # the student alone, and the teacher alone, of both of which the other tokens' mass is kept
        ends = of[json.dumps(["target-sft", {"eta": eta}])]
        assert max(max(token["bound"]) for token in ends) < 1e-6


def test_what_follows_from_the_runs_own_targets_is_what_was_measured_over_the_whole_vocabulary():
    made = inspection("teacher", CUT)
    _, results = by_node("teacher", CUT)
    name = next(iter(made.found.open.methods))
    tokens = next(found for case, found in zip(cases("teacher"), results, strict=True) if case == (name, {}))
    for part, said in (("target_kl", "kl"), ("gradient", "gradient")):
        measured = np.concatenate([row.pulls[name][part] for row in made.found.rows])
        assert [token[said] for token in tokens] == pytest.approx(measured.tolist(), rel=1e-6, nan_ok=True)


def test_a_target_of_fixed_exponents_is_stored_as_one_number_a_token_and_any_other_entry_by_entry(monkeypatch):
    """Of methods that the page does not move: it builds what follows from what it keeps."""
    made = inspection("teacher", CUT)
    columns = page_store(made).data["columns"]
    assert "extrapolated mass" in columns
    assert [name for name in columns if name.endswith(" target")] == []
    monkeypatch.setattr(measured_rows_module, "not_moved", lambda: {"gem": "so", "extrapolated": "so"})
    monkeypatch.setattr(page_store_module, "not_moved", lambda: {"gem": "so", "extrapolated": "so"})
    both = inspect_trainer(made.trainer, 8, 0, CUT)
    columns = page_store(both).data["columns"]
    assert [name for name in columns if name.endswith(" target")] == ["gem target"]


@pytest.mark.parametrize("name", ["talr", "gem"])
def test_a_method_that_the_pages_code_lacks_is_shown_as_it_was_measured(name: str, monkeypatch):
    """Of talr the trust is enough, as the rest is the student; of gem every entry is stored."""
    for module in (page_store_module, measured_rows_module):
        monkeypatch.setattr(module, "not_moved", lambda: {name: "so"})
    made = inspect_trainer(inspection("teacher", ALL).trainer, 8, 0, ALL)
    store = page_store(made).data
    assert (f"{name} target" in store["columns"]) == (name == "gem")
    store["methods"] = [each for each in store["methods"] if each["name"] == name]
    assert store["methods"][0]["not_moved"] == "so"
    looked_at.SCRATCH.joinpath("measured.json").write_text(json.dumps(store))
    script, code = Path(__file__).with_name("page_targets.js"), looked_at.SCRATCH / "methods.js"
    (methods,) = (each for each in CODE if Path(each).name == code.name)
    code.write_text(Path(methods).read_text().replace(f"    {name}: {{", "    other: {"))
    scripts = [str(code) if each == methods else each for each in CODE]
    words = [node(), str(script), str(looked_at.SCRATCH / "measured.json"), *scripts]
    said = subprocess.run(words, capture_output=True, text=True, check=True)
    tokens = json.loads(said.stdout)["targets"][name]
    for token, (q, trust, _) in zip(tokens, from_stored(made, name, {}), strict=True):
        assert np.abs(np.array(token["q"]) - q[token["ids"]].numpy()).max() <= 1e-6
        assert token["trust"] == pytest.approx(float(trust), abs=1e-6, rel=1e-5)
