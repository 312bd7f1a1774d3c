"""`qtarget inspect` as a user calls it: what it prints, writes and refuses; sources live, cached and served."""

import json

import numpy as np
import pytest
from job.command import run as command
from teacher.serving import serving

import qtarget as qt

WORDS = ("inspect", "config.yaml", "--rows", "8", "--scan", "6")


def test_it_prints_writes_and_leaves_nothing_else(here, capsys):
    before = {path.name for path in here.iterdir()}
    said = command(capsys, *WORDS, "--out", "looked")
    assert said.code == 0
    assert {path.name for path in here.iterdir()} == before | {"looked"}
    assert {path.name for path in (here / "looked").iterdir()} == {"inspect.html", "inspect.json"}
    for part in ("audit", "methods side by side", "words by kind", "teacher", "evidence", "to pilot"):
        assert part in said.out
    assert all(len(line) <= 80 for line in said.out.splitlines()[:-1])
    found = json.loads(command(capsys, *WORDS, "--out", "again", "--json").out)
    assert found["page"] == "again/inspect.html"
    assert {"audit", "methods", "teachers", "kinds", "statistics", "candidates", "regions"} <= set(found)
    written = json.loads((here / "looked" / "inspect.json").read_text())
    assert {**written, "page": "again/inspect.html"} == found
    assert found["model"] == "qwen2"  # as the configuration has it
    assert found["methods"][0]["name"] == "target-sft"
    assert found["methods"][0]["hyperparameters"] == {"eta": 0.3, "teacher_temperature": 1.0, "trust": "p_y"}
    assert sum(found["methods"][0]["by_region"]) == pytest.approx(1)
    lines, words = said.out.splitlines(), " ".join(said.out.split())
    beyond = [each for each in found["methods"] if each["mean_trust"] > 1]
    partly = [each for each in found["methods"] if 0 < each["proper"] < 0.995]
    assert beyond  # of log-one-minus-p
    for each in found["methods"]:
        line = next(line for line in lines if line.split()[:1] == [each["name"]])
        assert ("beyond 1" in line) == (each in beyond)
        assert each["mean_kl"] is None or np.isfinite(each["mean_kl"])
    assert f"an improper target ({beyond[0]['name']} " in words
    assert ("these are not all" in words) == bool(partly)


def test_it_says_at_which_progress_of_a_schedule_its_figures_hold(here, capsys):
    words = (*WORDS, "--eta", "{from: 0.2, to: 0.8}", "--trust", "{from: 1, to: p_y}", "--out", "o")
    said = command(capsys, *words)
    assert said.code == 0, said.err
    out = " ".join(said.out.split())
    assert "target-sft with eta = 0.2 → 0.8 along progress, trust = 1 → p_y along progress" in out
    assert "of target-sft and taid, which change along a run, these figures are those at progress 0" in out
    assert "'from'" not in said.out
    assert all(len(line) <= 80 for line in said.out.splitlines()[:-1])
    found = json.loads((here / "o" / "inspect.json").read_text())
    progress = {each["name"]: each["progress"] for each in found["methods"]}
    assert {name for name, at in progress.items() if at == 0.0} == {"target-sft", "taid"}
    assert {at for name, at in progress.items() if name not in ("target-sft", "taid")} == {None}
    method = next(each for each in found["methods"] if each["name"] == "target-sft")
    assert method["mean_trust"] == pytest.approx(1)  # at progress 0 it is sft
    assert method["hyperparameters"]["eta"] == {"from": 0.2, "to": 0.8}


def test_without_a_teacher_it_says_what_to_write(here, capsys):
    words = (*WORDS, "--out", "o", "--method", "sft", "--eta", "null", "--teacher", "null")
    found = json.loads(command(capsys, *words, "--json").out)
    assert found["teachers"] == []
    assert set(found["closed"]) == {n for n in qt.METHODS if qt.method(n).needs & {"teacher", "token_weight"}}
    assert "`teacher: path/or/hub-name`" in command(capsys, *words).out.replace("\n", " ").replace("  ", " ")


def test_rows_are_told_by_the_lines_of_their_file_where_those_are_known(here, capsys):
    given = (here / "rows.jsonl").read_text().splitlines()
    plain = figures(capsys)
    assert plain["places"]
    assert all(place == f"rows.jsonl, line {number}" for number, place in plain["places"].items())
    assert set(plain["places"]) >= {str(number) for number, _ in plain["rows"]}
    said = command(capsys, *WORDS, "--out", "o").out
    assert "training row N is line N of rows.jsonl" in " ".join(said.split())
    (here / "gaps.jsonl").write_text("\n".join(line + "\n" for line in given))  # an empty line after each row
    gaps = figures(capsys, "--train-dataset", "gaps.jsonl")
    assert all(place == f"gaps.jsonl, line {2 * int(number) - 1}" for number, place in gaps["places"].items())
    least = gaps["audit"]["least"][0]
    said = command(capsys, *WORDS, "--out", "o", "--train-dataset", "gaps.jsonl").out
    assert f"learn least: rows {least} (gaps.jsonl, line {2 * least - 1})" in " ".join(said.split())
    assert all(len(line) <= 80 for line in said.splitlines()[:-1])
    assert figures(capsys, "--packing", "--max-length", "128", "--padding-free")["places"] == {}
    (here / "bad.jsonl").write_text('{"prompt": "w1", "completion": ""}\n' + "\n".join(given))
    assert figures(capsys, "--train-dataset", "bad.jsonl", "--bad-rows", "skip")["places"] == {}


def test_a_cached_and_a_served_teacher_say_what_a_live_one_says(here, capsys):
    live = figures(capsys)
    cached = command(capsys, "teacher", "cache", "config.yaml", "--teacher-cache", "cache", "--teacher-top-k", "305")
    assert cached.code == 0, cached.err
    close(live, figures(capsys, "--teacher-cache", "cache"), 2e-3)
    with serving(here / "teacher", "--top-k-limit", "305") as server:
        close(live, figures(capsys, "--teacher", server.url, "--teacher-top-k", "305"), 2e-3)


def test_an_adapter_and_packing_change_no_figure(here, capsys):
    plain = figures(capsys, "--rows", "64")
    assert plain["sample"] == 16  # all of them, so that no draw differs
    close(plain, figures(capsys, "--rows", "64", "--use-peft"), 1e-4)  # an adapter is zero when training starts
    packed = figures(capsys, "--rows", "64", "--packing", "--max-length", "128", "--padding-free")
    assert packed["sample"] == 16
    narrow = [name for name in ("sft", "dft", "target-sft", "kd", "sft-kl", "gem")]  # of token scope
    close(*({**each, "methods": [one for one in each["methods"] if one["name"] in narrow]} for each in (plain, packed)),
          1e-4)  # fmt: skip


def figures(capsys: pytest.CaptureFixture, *words: str) -> dict:
    said = command(capsys, *WORDS[:2], *(words if "--rows" in words else (*WORDS[2:], *words)), "--out", "o", "--json")
    assert said.code == 0, said.err
    return json.loads(said.out)


def close(one: dict, other: dict, tolerance: float) -> None:
    for a, b in zip(one["methods"], other["methods"], strict=True):
        assert a["name"] == b["name"]
        for name in ("mean_trust", "gradient_beside_sft", "conflict_share", "contradicted_share"):
            assert np.isclose(a[name], b[name], rtol=tolerance, atol=tolerance), (a["name"], name, a[name], b[name])
    assert np.isclose(one["teachers"][0]["nll"], other["teachers"][0]["nll"], atol=tolerance)


def test_bad_input_is_refused_before_the_work(here, capsys):
    (here / "file").write_text("")
    (here / "taken" / "inspect.html").mkdir(parents=True)
    for words, part in (
        (("--out", "file"), "--out file"),
        (("--out", "taken"), "inspect.html is a folder"),
        (("--out", "o", "--rows", "0"), "--rows"),
        (("--out", "o", "--train-dataset", "none.jsonl"), "none.jsonl"),
        (("--out", "o", "--methd", "sft"), "method"),
    ):
        said = command(capsys, *WORDS[:2], *words)
        assert said.code == 2, words
        assert part in said.err


def test_a_cache_that_lacks_rows_is_refused(here, capsys, written):
    assert command(capsys, "teacher", "cache", "config.yaml", "--teacher-cache", "cache").code == 0
    written("others.jsonl", {"prompt": "w1", "completion": " w2 w3"})
    words = (*WORDS, "--out", "o", "--teacher-cache", "cache", "--train-dataset", "others.jsonl")
    said = command(capsys, *words)
    assert said.code == 2
    assert "holds nothing about" in said.err
