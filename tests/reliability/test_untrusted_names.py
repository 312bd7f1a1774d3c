"""Names that others chose, of columns, folders, weights: none of them becomes HTML, or a path out of its folder."""

import json
import re
import shutil
from pathlib import Path

import pytest
from job.command import run as command
from job.directories import model_directory, write_rows
from reliability.artefacts import FULL, user_home

from qtarget.disk.seal import SEAL, damage, read_seal, seal
from qtarget.models.loading import causal_lm_from

PAYLOADS = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "<img src=x onerror=alert(1)>",
    "a`<img src=x onerror=alert(1)>",
    "``<svg onload=alert(1)>",
    "a\n```\n<iframe src=x>",
    "]]><b>",
    "\u202e<b>",
)
CODE = re.compile(r"^(`{3,})[^`\n]*\n.*?^\1$|(?<!`)(`+)(?!`)[^\n]*?(?<!`)\2(?!`)", re.DOTALL | re.MULTILINE)
"""What CommonMark shows as it stands: fenced blocks, and spans between equal runs of backticks."""


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / ".cache")
    monkeypatch.chdir(user_home(tmp_path))
    return tmp_path


@pytest.mark.failure_case(18)
def test_no_name_becomes_a_tag_in_a_card(home, capsys):
    rows = [json.loads(line) for line in (home / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    write_rows(home / "own.jsonl", [{**row, **dict.fromkeys(PAYLOADS, 1)} for row in rows])
    out = "<img src=x onerror=alert(1)>`out"
    shutil.copytree(home / "qwen2", home / "<b>`model<i>")
    given = ("--train-dataset", "own.jsonl", "--model", "<b>`model<i>", "--output-dir", out, "--max-steps", "1")
    assert command(capsys, *FULL, *given, "--run-name", "a\n```\n<script>").code == 0
    card = (home / out / "README.md").read_text(encoding="utf-8").split("\n---\n", 1)[1]
    assert "onerror" in card
    assert "<" not in CODE.sub("", card), CODE.sub("", card)
    written = {path.suffix for path in (home / out).rglob("*") if path.is_file()}
    assert not written & {".html", ".htm", ".svg", ".js"}


@pytest.mark.failure_case(19)
@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "/etc/passwd", "a/../../b.safetensors", "C:\\x.safetensors"]
)
def test_an_index_of_weights_that_leads_out_of_its_folder_is_refused(tmp_path, name):
    folder = Path(model_directory(tmp_path / "model"))
    (folder / "model.safetensors").rename(tmp_path / "outside.safetensors")
    names = dict.fromkeys(["model.embed_tokens.weight"], name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    with pytest.raises(ValueError, match=r"index\.json names .* which is no file of that folder"):
        causal_lm_from(str(folder), {})


@pytest.mark.failure_case(19)
@pytest.mark.parametrize("name", ["../outside", "/etc/passwd"])
def test_a_manifest_that_leads_out_of_its_folder_is_refused(tmp_path, name):
    (tmp_path / "a").write_text("a")
    sealed = seal(tmp_path, {})
    assert damage(tmp_path, sealed) == []
    content = json.loads((tmp_path / SEAL).read_text())
    del content["content_sha256"]
    content["files"] = {name: content["files"]["a"]}
    (tmp_path / SEAL).write_text(json.dumps(content))
    with pytest.raises(ValueError, match="is outside of the folder"):
        read_seal(tmp_path)
