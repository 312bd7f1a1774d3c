"""A folder that is written whole or not at all."""

import pytest

from qtarget.disk.draft_folder import drafted_folder


def test_it_appears_when_the_block_ends(tmp_path):
    with drafted_folder(tmp_path / "deep" / "model") as draft:
        (draft / "weights").write_text("1")
        assert not (tmp_path / "deep" / "model").exists()
    assert (tmp_path / "deep" / "model" / "weights").read_text() == "1"
    assert [each.name for each in (tmp_path / "deep").iterdir()] == ["model"]


def _write_half(folder, replaces):
    with drafted_folder(folder, replaces) as draft:
        (draft / "weights").write_text("half")
        raise OSError("disk full")


@pytest.mark.failure_case(21)
@pytest.mark.parametrize("replaces", [False, True])
def test_a_block_that_fails_leaves_what_was_there(tmp_path, replaces):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("whole")
    with pytest.raises(OSError, match="disk full"):
        _write_half(tmp_path / "model", replaces)
    assert (tmp_path / "model" / "weights").read_text() == "whole"
    assert [each.name for each in tmp_path.iterdir()] == ["model"]


def test_one_that_is_there_is_replaced_only_where_that_is_asked_for(tmp_path):
    for text in ("first", "second"):
        with drafted_folder(tmp_path / "model", replaces=True) as draft:
            (draft / text).write_text(text)
    assert [each.name for each in (tmp_path / "model").iterdir()] == ["second"]
    with pytest.raises(OSError, match="model"), drafted_folder(tmp_path / "model"):
        pass
    assert [each.name for each in (tmp_path / "model").iterdir()] == ["second"]
