"""A source as text: each kind is told from the others, and what is none of them is refused."""

import pytest
from teacher import caches

from qtarget.teacher import SourceKind, SourceName
from qtarget.teacher.source_name import SCHEMES


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", SourceKind.MODEL),
        ("gpt2", SourceKind.MODEL),
        ("./http", SourceKind.MODEL),
        ("http", SourceKind.MODEL),
        ("C:\\models\\teacher", SourceKind.MODEL),
        ("~/models/teacher", SourceKind.MODEL),
        ("initial", SourceKind.INITIAL),
        ("./initial", SourceKind.MODEL),
        ("http://127.0.0.1:8321", SourceKind.SERVER),
        ("https://host/teacher", SourceKind.SERVER),
        ("HTTP://host", SourceKind.SERVER),
        ("vllm+http://127.0.0.1:8000", SourceKind.SERVER),
        ("VLLM+https://host", SourceKind.SERVER),
        ("sglang+http://host:30000", SourceKind.SERVER),
    ],
)
def test_a_text_names_one_kind_of_source(text, kind):
    assert SourceName.parse(text) == (text, kind)


def test_a_folder_of_a_cache_is_told_from_a_model_finished_or_not(tmp_path, monkeypatch):
    folder = caches.written(tmp_path / "kept")
    assert SourceName.parse(str(folder)).kind is SourceKind.CACHE
    (folder / "manifest.json").unlink()
    assert SourceName.parse(str(folder)).kind is SourceKind.CACHE
    monkeypatch.setenv("HOME", str(tmp_path))
    assert SourceName.parse("~/kept").kind is SourceKind.CACHE
    (tmp_path / "model").mkdir()
    assert SourceName.parse(str(tmp_path / "model")).kind is SourceKind.MODEL


@pytest.mark.parametrize("text", ["ftp://host", "://host", "s3://bucket/model"])
def test_an_address_that_nothing_can_ask_is_refused_with_what_to_write(text):
    with pytest.raises(ValueError, match=r"is no address of a teacher; write http://host:port"):
        SourceName.parse(text)


def test_a_new_scheme_is_one_line(monkeypatch):
    with pytest.raises(ValueError, match=r"tgi\+http://"):
        SourceName.parse("tgi+http://host:8000")
    monkeypatch.setitem(SCHEMES, "tgi+http", SourceKind.SERVER)
    assert SourceName.parse("tgi+http://host:8000").kind is SourceKind.SERVER


def test_a_sealed_model_is_no_cache(tmp_path):
    """The result of a run and a model of the lab hold a manifest.json, as a cache does."""
    for name, file in (("whole", "config.json"), ("adapter", "adapter_config.json")):
        (tmp_path / name).mkdir()
        for written in (file, "manifest.json"):
            (tmp_path / name / written).write_text("{}", encoding="utf-8")
        assert SourceName.parse(str(tmp_path / name)).kind is SourceKind.MODEL
