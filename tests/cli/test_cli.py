"""The command line itself: help that does not wait, the catalogue, exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from job.command import run as command
from rich.cells import cell_len
from typer.main import get_command

import qtarget as qt
from qtarget.cli.evaluation_commands import EvalOptions
from qtarget.cli.main import app, main
from qtarget.job import method_pages as catalogue
from qtarget.job.method_pages import entries, entry, stated
from qtarget.target.hyperparameters import hyperparameters

HEAVY = ("torch", "transformers", "trl", "datasets", "numpy", "pydantic", "yaml")


def python(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=600)


def test_help_waits_for_nothing_heavy():
    code = f"import sys, qtarget.cli.main; print([name for name in {HEAVY} if name in sys.modules])"
    assert python("-c", code).stdout.strip() == "[]"


COMMANDS = {
    "": "init schema doctor estimate inspect search train validate methods sample chat merge tasks eval compare "
    "answers demo study study-real lab teacher recipes",
    "lab": "build",
    "teacher": "cache verify serve",
    "recipes": "list show run",
}


@pytest.mark.parametrize("group", COMMANDS)
def test_every_command_stands_in_its_group_and_has_help(capsys, group):
    commands = getattr(get_command(app), "commands")  # noqa: B009
    named = commands[group].commands if group else commands
    assert list(named) == COMMANDS[group].split()
    for name in named:
        said = command(capsys, *group.split(), name, "--help")
        assert said.code == 0
        assert f"Usage: qtarget {group} {name}".replace("  ", " ") in said.out


def test_every_option_of_eval_reaches_the_plan(tmp_path):
    given = {
        "k": 3, "temperature": 0.5, "top_p": 0.9, "max_new_tokens": 7, "prompt": "plain", "seed": 5, "limit": 2,
        "generator": "http", "url": "http://host", "adapter": "a", "revision": "r", "batch_size": 4, "dtype": "float32",
        "device": "cpu", "trust_remote_code": True, "regrade": True, "base": "b", "reference_rows": tmp_path,
        "allow_pickled_weights": True, "protocol_name": "thinking",
    }  # fmt: skip
    (tmp_path / "judge.txt").write_text("{question} {gold} {answer}", "utf-8")
    own = {
        "questions": [str(tmp_path / "mine.csv")], "grade": "judge", "grade_option": ["at_once=2"],
        "fields": ["question=q,answer=a"], "judge_url": "http://judge", "judge_model": "j",
        "judge_prompt": tmp_path / "judge.txt", "hand_grades": tmp_path / "hand.csv",
    }  # fmt: skip
    options = EvalOptions(
        "m", tmp_path, ["aime24,amc23", "aime24"], rows=["aime24=x.jsonl"], as_json=True, **given, **own
    )
    assert set(given) | set(own) | {"model", "task", "out", "rows", "as_json"} == set(vars(options))
    plan = options.plan()
    assert (plan.model, plan.tasks[:2], plan.out) == ("m", ("aime24", "amc23"), tmp_path)
    assert [task.name for task in plan.tasks[2:]] == ["mine"]
    assert plan.tasks[2].read.fields == {"question": "q", "answer": "a"}
    assert plan.tasks[2].settings == {
        "url": "http://judge", "model": "j", "prompt": "{question} {gold} {answer}", "at_once": 2,
        "hand_grades": str(tmp_path / "hand.csv"),
    }  # fmt: skip
    assert plan.rows == {"aime24": Path("x.jsonl")}
    protocol = {name: given.pop(name) for name in ("k", "temperature", "top_p", "max_new_tokens", "prompt", "seed")}
    assert plan.protocol == protocol
    assert {name: getattr(plan, name) for name in given} == given


def test_as_a_module():
    said = python("-m", "qtarget", "--help")
    assert said.returncode == 0
    for name in ("train", "validate", "methods", "demo", "lab"):
        assert f" {name} " in said.stdout


@pytest.mark.parametrize("first", ["from qtarget.cli.main import main", "import qtarget.study.demo.run_demo"])
def test_no_process_warns_of_a_kernel_that_nothing_calls(first):
    """bitsandbytes does when it is imported, on some processors; a worker imports it without the command line."""
    warn = "import logging; logging.getLogger('bitsandbytes.backends.cpu.ops').warning('%s gemm_4bit_forward', 'no')"
    call = "try: main(['methods', 'sft', '--json'])\nexcept SystemExit: pass" if "main" in first else ""
    said = python("-c", f"{first}\n{call}\n{warn}\nlogging.getLogger('bitsandbytes.backends.cpu.ops').warning('other')")
    assert "gemm_4bit_forward" not in said.stderr
    assert "other" in said.stderr


def test_without_the_extras_it_says_what_to_install():
    said = python("-c", "import sys; sys.modules['typer'] = None; import qtarget.cli.main")
    assert said.returncode == 1
    assert said.stderr.strip().endswith("pip install 'qtarget[train]'")
    assert "Traceback" not in said.stderr


def test_a_library_of_another_version_is_a_line_and_no_traceback(tmp_path):
    """TRL 9, as its metadata say."""
    folder = tmp_path / "trl-9.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: trl\nVersion: 9.0\n")
    command = "from qtarget.cli.main import main; main(['train', 'x.yaml'])"
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {command}"
    said = python("-c", code)
    assert said.returncode == 2
    assert "Found trl 9.0; qtarget.train is tested with trl 1.15 to" in said.stderr  # it is tried, and goes on
    assert "x.yaml is not there" in said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize("width", [80, 120])
def test_the_catalogue_as_a_table(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    said = command(capsys, "methods")
    assert said.code == 0
    assert max(map(cell_len, said.out.splitlines())) <= width
    firsts = [line.split()[0] for line in said.out.splitlines() if line.split()]
    assert [name for name in firsts if name in qt.METHODS] == list(qt.METHODS)
    assert "2606.11189" in said.out


@pytest.mark.parametrize("name", qt.METHODS)
def test_every_docstring_states_trust_and_residual(name):
    found = entry(name)
    assert found.summary.endswith((".", ")"))
    assert found.trust
    assert found.residual not in ("", "Q = ")
    assert found.formula
    assert found.source == qt.method(name).source
    assert [one.name for one in found.parameters] == [h.name for h in hyperparameters(qt.METHODS[name])]
    assert all(one.meaning and one.domain for one in found.parameters)


def test_what_stands_behind_a_sign_ends_outside_of_brackets():
    text = "γ = max(p_y^(1/τ), 0.1), τ a median; π̃ = p. Q = d (γ = 1)."
    assert stated("γ =", text) == "max(p_y^(1/τ), 0.1)"
    assert stated("π̃ =", text) == "p"
    assert stated("γ =", "Q = d (γ = 1), loss") == "1"
    assert stated("s =", text) == ""


def test_one_method_in_words(capsys):
    said = command(capsys, "methods", "target-sft")
    for shown in ("∝ p^(1−η)·t^η", "eta 0 is dft", "needs       teacher", "arXiv 2606.11189", "[0, 1]", "eta: 0.5"):
        assert shown in said.out
    assert "teacher: path/or/hub-name" in said.out


def test_the_catalogue_for_programs(capsys):
    every = json.loads(command(capsys, "methods", "--json").out)
    assert [one["name"] for one in every] == list(qt.METHODS)
    one = json.loads(command(capsys, "methods", "asft", "--json").out)
    assert one == every[list(qt.METHODS).index("asft")]
    assert (one["needs"], one["parameters"][0]["default"]) == (["reference"], 0.05)


def test_needs_are_those_a_user_brings():
    assert {one.name: one.needs for one in entries() if one.needs}["iw-sft"] == ("reference",)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("methods target-sfd", 'did you mean "target-sft"?'),
        ("lab build --world week-operator", "weak-operator"),
        ("demo --setting wrong-row", "wrong-rows"),
        ("trian", "No such command 'trian'"),
        ("methods --jsn", "No such option"),
        ("eval", "Missing argument"),
        ("eval ./modl --task aime24 --out o", "MODEL './modl': the model modl is not there"),
        ("eval [red] --task aime24 --out o", "MODEL '[red]': the model [red] is not there"),
        ("eval m --base ../nowhere/b --task aime24 --out o", "--base '../nowhere/b': the model"),
        ("teacher serve ./modl", "MODEL './modl': the model modl is not there"),
        ("teacher verify nowhere", "nowhere is no teacher cache"),
        ("compare nowhere other", "nowhere is no folder"),
        ("recipes show openr1", "no recipe 'openr1'"),
        ("recipes run openr1", "no recipe 'openr1'"),
        ("recipes list more", "unexpected extra argument"),
        ("study --workers x", "'--workers'"),
    ],
)
def test_what_cannot_be_run_is_refused(capsys, words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = command(capsys, *words.split())
    assert found.code == 2
    assert said in found.err
    assert "Traceback" not in found.err
    assert os.listdir(tmp_path) == []
    assert "\x1b" not in found.err


def test_a_fault_of_ours_is_not_explained_away(monkeypatch):
    monkeypatch.setattr(catalogue, "entries", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["methods"])


def test_lab_build_makes_models_that_load(capsys, tmp_path, monkeypatch):
    """With pre-training cut to a few steps: how well it trains is the lab's own test."""
    from dataclasses import replace

    from transformers import AutoModelForCausalLM

    from qtarget import lab

    world = lab.world("weak-operator")
    short = {role: replace(getattr(world, role), school_steps=1, steps=1) for role in ("student", "teacher")}
    monkeypatch.setitem(lab.WORLDS, "weak-operator", replace(world, **short))
    said = command(capsys, "lab", "build", "--out", str(tmp_path / "built"))
    assert said.code == 0
    for role in ("student", "teacher"):
        assert AutoModelForCausalLM.from_pretrained(tmp_path / "built" / role).num_parameters() > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("chat nope", "MODEL 'nope': the directory nope is not there; the directory holds empty, file"),
        ("chat emty", "did you mean empty?"),
        ("chat file", "MODEL 'file': the model file is a file, and a directory is wanted here."),
        ("chat empty", "MODEL 'empty' is a directory without config.json, so it holds no model"),
        ("eval empty --task aime24 --out out", "MODEL 'empty' is a directory without config.json"),
        ("merge empty --out out", "ADAPTER 'empty' is a directory without config.json"),
        ("teacher serve nope", "MODEL 'nope': the directory nope is not there"),
    ],
)
def test_a_model_that_is_not_there_is_one_clear_error(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("{}")
    found = command(capsys, *words.split())
    assert found.code == 2
    assert said in found.err
    assert len(found.err.strip().splitlines()) == 1
