"""Every example runs as its docstring says."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from qtarget import lab

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, *arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_compose_a_target(capsys):
    run("compose_a_target.py")
    printed = capsys.readouterr().out
    assert "proper     tensor([True, True, True, True, True, True])" in printed
    assert "nan" not in printed


def test_draw_targets(tmp_path):
    run("draw_targets.py", str(tmp_path / "targets.png"))
    assert (tmp_path / "targets.png").read_bytes().startswith(b"\x89PNG")


def test_draw_ideas(tmp_path):
    run("draw_ideas.py", str(tmp_path / "ideas.png"))
    assert (tmp_path / "ideas.png").read_bytes().startswith(b"\x89PNG")


def test_train_with_trl(tmp_path):
    world = lab.world("weak-operator")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps(row) for row in lab.demonstrations(world, seed=0)[:8]))
    out = tmp_path / "out"
    run("train_with_trl.py", str(lab.student_path(world)), str(lab.teacher_path(world)), str(rows), str(out))
    AutoModelForCausalLM.from_pretrained(out)


def test_every_example_is_tested():
    text = Path(__file__).read_text()
    assert all(f'"{path.name}"' in text for path in EXAMPLES.glob("*.py"))
