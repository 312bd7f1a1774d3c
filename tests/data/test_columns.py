"""Data sets refused before tokenising, each with the line to write."""

import pytest
from datasets import Dataset, IterableDataset

from qtarget.data import check_columns, check_supervision, checked_completions, column_names


@pytest.mark.parametrize(
    "columns", [["prompt", "completion"], ["messages"], ["conversations"], ["text"], ["input_ids"]]
)
def test_each_form_is_let_through(columns):
    check_columns(Dataset.from_list([dict.fromkeys(columns, "x")]), "train")


@pytest.mark.parametrize("columns", [["question", "answer"], ["prompt"], ["completion"]])
def test_missing_columns_name_those_found(columns):
    with pytest.raises(ValueError, match=f"train data set has the columns .*{columns[0]}.*rename_column"):
        check_columns(Dataset.from_list([dict.fromkeys(columns, "x")]), "train")


def test_a_text_field_of_ones_own_counts():
    rows = Dataset.from_list([{"body": "x"}])
    check_columns(rows, "train", text_field="body")
    with pytest.raises(ValueError, match="`text`"):
        check_columns(rows, "train")


def test_a_stream_is_asked_for_its_columns():
    stream = IterableDataset.from_generator(lambda: iter([{"text": "x"}]))
    assert column_names(stream) == ["text"]


@pytest.mark.parametrize("empty", ["", "  ", [], [{"role": "assistant", "content": ""}]])
def test_an_empty_completion_names_its_row(empty):
    full = "w1" if isinstance(empty, str) else [{"role": "assistant", "content": "w1"}]
    rows = Dataset.from_dict({"prompt": ["w0"] * 3, "completion": [full, full, empty]})
    with pytest.raises(ValueError, match="Row 2 of the train data set has an empty completion"):
        checked_completions(rows, "train")
    checked_completions(rows.select([0, 1]), "train")


def test_a_stream_is_refused_when_it_comes_to_the_row():
    stream = Dataset.from_dict({"prompt": ["w0"] * 2, "completion": ["w1", ""]}).to_iterable_dataset()
    rows = iter(checked_completions(stream, "train"))
    assert next(rows)["completion"] == "w1"
    with pytest.raises(ValueError, match="Row 1 of the train data set has an empty completion"):
        next(rows)


def test_a_tool_call_is_a_completion():
    call = [{"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}]
    checked_completions(Dataset.from_dict({"prompt": ["w0"], "completion": [call]}), "train")


def test_all_tokens_masked_is_refused_and_one_label_is_enough():
    masked = {"input_ids": [1, 2], "labels": [1, -100]}  # a first label has no token before it
    with pytest.raises(ValueError, match="Every token of the train data set is masked"):
        check_supervision(Dataset.from_list([masked]), "train")
    check_supervision(Dataset.from_list([masked, {"input_ids": [1, 2], "labels": [-100, 2]}]), "train")
