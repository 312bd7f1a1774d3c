"""The page as a file: nothing in it but what its policy names, no text that ends an element, rows left out by size."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from importlib.resources import files

import pytest
import tiny_models
from job.inspection import looked_at

from qtarget.job.inspection.findings import SurestToken
from qtarget.job.inspection.html_page import page_store as store_module
from qtarget.job.inspection.html_page.target_page import LIVE_FILES, PART_FILES, SCRIPT_FILES, write_target_page
from qtarget.job.inspection.inspect_job import Inspection, inspect_trainer

HOSTILE = ["</script><script>alert(1)</script>", "<!--<script>", "]]>", "\u2028", "{scripts}{store}", "&amp;"]


@pytest.fixture(scope="module")
def hostile() -> Inspection:
    tokenizer = tiny_models.tiny_tokenizer()
    tokenizer.add_tokens(HOSTILE)
    ids = tokenizer.convert_tokens_to_ids(HOSTILE)
    rows = [{"input_ids": [9, *ids, 2 + n], "labels": [-100, *ids, 2 + n]} for n in range(12)]
    data = tiny_models.Dataset.from_list(rows)
    return inspect_trainer(looked_at.trainer(data=data, tokenizer=tokenizer, vocabulary=len(tokenizer)), 12, 0)


def test_only_the_pages_own_scripts_and_style_may_run(hostile, tmp_path):
    write_target_page(tmp_path / "page.html", hostile)
    text = (tmp_path / "page.html").read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert (len(scripts), len(styles)) == (len(SCRIPT_FILES), 1)
    named = set(re.findall(r"'sha256-[^']+'", policy))
    digests = [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in (*scripts, *styles)]
    assert named == {f"'sha256-{digest}'" for digest in digests}
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert re.findall(r"(?:src|href)=\"(?!#)[^\"]*\"", re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)) == []


def test_no_text_of_a_row_ends_the_element_it_stands_in(hostile, tmp_path):
    write_target_page(tmp_path / "page.html", hostile)
    text = (tmp_path / "page.html").read_text()
    held = re.findall(r'<script type="application/json" id="store">(.*?)</script>', text, re.DOTALL)
    assert len(held) == 1
    assert not set("<>&") & set(held[0])
    assert held[0].isascii()
    said = {part for row in json.loads(held[0])["store"]["rows"] for part in row["texts"]}
    assert any("</script><script>alert(1)</script>" in each for each in said)
    assert "\\u2028" in "".join(said)


def test_rows_that_do_not_fit_are_left_out_and_that_is_said(hostile, tmp_path, monkeypatch):
    assert "left" not in write_target_page(tmp_path / "page.html", hostile)
    monkeypatch.setattr(store_module, "STORE_BYTES", 4000)
    said = write_target_page(tmp_path / "page.html", hostile)
    shown, measured = int(said.split()[0]), len(hostile.found.rows)
    assert 1 <= shown < measured
    assert f"; {measured - shown} more did not fit" in said


def test_a_full_page_is_nearly_as_large_as_it_may_be(monkeypatch):
    """What a row takes is counted before it is taken, and not guessed."""
    made = inspect_trainer(looked_at.trainer(data=tiny_models.token_rows(60)), 64, 0)
    whole = store_module.page_store(made)
    assert whole.left_out == 0
    rows = [json.dumps(each) for each in (*whole.data["columns"].values(), *whole.data["rows"], *whole.data["texts"])]
    limit = sum(map(len, rows)) * 2 // 3
    monkeypatch.setattr(store_module, "STORE_BYTES", limit)
    part = store_module.page_store(made)
    kept = [json.dumps(each) for each in (*part.data["columns"].values(), *part.data["rows"], *part.data["texts"])]
    assert 0.6 * limit < sum(map(len, kept)) <= limit


def test_a_page_that_holds_few_rows_has_some_of_each_reason_and_those_of_which_the_teacher_is_surest(monkeypatch):
    """Long rows: the default asks for more than a page holds."""
    made = inspect_trainer(looked_at.trainer(data=tiny_models.token_rows(60)), 32, 20)
    rows = made.found.rows
    last = [[row.row.number for row in rows if row.row.why == why][-1] for why in ("random", "conflict")]
    surest = tuple(SurestToken("teacher 0", number, 2, "a", "b", 3, 0.0, 1.0, False) for number in last for _ in "12")
    made = replace(made, findings=replace(made.findings, surest=surest))
    monkeypatch.setattr(
        store_module, "STORE_BYTES", sum(store_module._bytes_of(made, at) for at in range(len(rows))) // 3
    )
    store = store_module.page_store(made)
    shown = [each["number"] for each in store.data["rows"]]
    assert 6 <= len(shown) == len(rows) - store.left_out < len(rows) / 2
    assert shown == [row.row.number for row in rows if row.row.number in shown]
    of = [sum(each["why"] == why for each in store.data["rows"]) for why in ("first", "random", "conflict")]
    assert max(of) - min(of) <= 2
    assert set(last) <= set(shown)
    for each in store.data["rows"]:  # the texts are those of the row
        row = next(row for row in rows if row.row.number == each["number"])
        assert each["learned"] == row.row.learned.tolist()
        assert len(each["texts"]) == len(row.row.ids)
    batch = made.findings.batch_rows
    assert [each["group"] for each in store.data["rows"]] == [place // batch for place in range(len(shown))]


def test_the_pages_scripts_are_all_loaded_and_their_lines_can_be_read():
    folder = files("qtarget.job.inspection.html_page")
    ours = [name for name in (*LIVE_FILES, *PART_FILES) if not name.startswith("vendored/")]
    found = [f"{each}/{file.name}" for each in ("live", "parts") for file in folder.joinpath(each).iterdir()]
    assert sorted(found) == sorted(ours)
    for name in ours:
        text = folder.joinpath(name).read_text(encoding="utf-8")
        assert text.startswith("/* "), name
        assert max(map(len, text.splitlines())) <= 120, name
        assert len(text.splitlines()) <= 200, name


def test_files_of_others_are_as_they_came():
    folder = files("qtarget.job.inspection.html_page").joinpath("vendored")
    table = re.findall(
        r"^\| (\S+\.(?:js|css)) \|.* ([0-9a-f]{64}) \|$", folder.joinpath("README.md").read_text(), re.MULTILINE
    )
    assert {name for name, _ in table} == {"uPlot.iife.min.js", "uPlot.min.css", "fflate.umd.js"}
    for name, digest in table:
        assert hashlib.sha256(folder.joinpath(name).read_bytes()).hexdigest() == digest
    for name in ("uPlot", "fflate"):
        assert "MIT License" in folder.joinpath(f"{name}.LICENSE").read_text()
