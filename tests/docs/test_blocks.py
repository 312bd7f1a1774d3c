"""The pages' Python runs: every block, in the page's order, in one namespace a page.

What a page takes for granted (a hub's model, a GPU, a user's rows, tensors of a training loop) is stood in for by the
lab's models, this CPU and a few small tensors; nothing else of a block is changed.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from qtarget import lab

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)

ELSEWHERE = {
    "docs/maintainers/add-a-method.md": "edits of the package; tests/docs/test_pages_are_followed.py makes them",
    "docs/from-trl-gkd.md": "both scripts run, and are compared, in tests/train/test_gkd_parity.py",
    "docs/maintainers/extend.md": "as docs/maintainers/add-a-method.md",
}
"""Pages whose blocks do not run here, and why."""

WORLD = lab.world("strong-prior")
STAND_INS = {
    '"Qwen/Qwen2.5-1.5B"': repr(str(lab.student_path(WORLD))),
    '"Qwen/Qwen2.5-7B-Instruct"': repr(str(lab.teacher_path(WORLD))),
    'output_dir="out"': 'output_dir="out", bf16=False, use_cpu=True, report_to=[]',  # TRL's own defaults want a GPU
}
"""What stands in a block, and what runs in its place."""


def rows() -> list[dict[str, str]]:
    """What a user's rows.jsonl holds, of the lab's world."""
    return [dict(row) for row in lab.demonstrations(WORLD, seed=0)[:4]]


def loop() -> dict[str, Any]:
    """What a training loop has at hand: hidden states and output layers of a student and a teacher, and labels."""
    tokens, vocab = 5, 11
    return {
        "hidden": torch.randn(tokens, 4, requires_grad=True),
        "lm_head": torch.nn.Linear(4, vocab),
        "teacher_hidden": torch.randn(tokens, 6),
        "teacher_lm_head": torch.nn.Linear(6, vocab),
        "labels": torch.arange(tokens),
    }


def own_rows() -> dict[str, Any]:
    from datasets import Dataset

    return {"data": Dataset.from_list(rows())}


def rows_and_loop() -> dict[str, Any]:
    return own_rows() | loop()


AT_HAND: Mapping[str, Callable[[], dict[str, Any]]] = {"docs/training.md": rows_and_loop}
"""Names that a page's blocks use and do not make."""


def pages() -> list[str]:
    """Pages with Python in them."""
    every = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [p.relative_to(ROOT).as_posix() for p in every if BLOCK.search(p.read_text(encoding="utf-8"))]


def blocks(page: str) -> list[str]:
    return BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


@pytest.fixture
def users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user would stand: rows.jsonl beside the script, and nothing that leaves the machine."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    return tmp_path


@pytest.mark.parametrize("page", [page for page in pages() if page not in ELSEWHERE])
def test_python_blocks_run(page: str, users_folder: Path):
    namespace: dict[str, Any] = {"__name__": "__main__", **AT_HAND.get(page, dict)()}
    for number, block in enumerate(blocks(page)):
        exec(compile(on_the_lab(block), f"{page}, block {number}", "exec"), namespace)
    assert (users_folder / "out").is_dir() or "output_dir" not in "".join(blocks(page))


def on_the_lab(block: str) -> str:
    """A block with the lab's models in the place of the hub's, and a CPU in that of a GPU."""
    for written, run in STAND_INS.items():
        block = block.replace(written, run)
    return block


def test_every_exception_is_still_needed():
    text = "".join(block for page in pages() for block in blocks(page))
    assert {written for written in STAND_INS if written not in text} == set()
    assert set(AT_HAND) <= set(pages())


def test_a_block_that_fails_is_seen(users_folder: Path):
    with pytest.raises(NameError, match="nothing_of_that_name"):
        exec(compile(on_the_lab("nothing_of_that_name"), "page", "exec"), {})
