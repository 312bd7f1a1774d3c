"""`weight_spans` and `token_weight` of rows, in every form of data."""

import pytest
import tiny_models
from datasets import Dataset

from qtarget.data import attach_token_weight, carries_weight

TOKENIZER = tiny_models.tiny_tokenizer()


def weigh(row, *, is_chat=False, **kwargs):
    """The tokens of a row and what each weighs."""
    if "input_ids" not in row:
        if is_chat:
            messages = row["messages"] if "messages" in row else row["prompt"] + row["completion"]
            ids = TOKENIZER.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]
        else:
            ids = TOKENIZER(row["text"] if "text" in row else row["prompt"] + row["completion"])["input_ids"]
        row = {**row, "input_ids": ids}
    out = attach_token_weight(Dataset.from_list([row]), TOKENIZER, "train", **kwargs)[0]
    return list(zip(TOKENIZER.convert_ids_to_tokens(out["input_ids"]), out["token_weight"], strict=True))


def test_characters_of_the_completion():
    row = {"prompt": "w1 w2 ", "completion": "w3 w4 w5<eos>", "weight_spans": [[3, 5, 2.0]]}
    assert weigh(row) == [("w1", 1), ("w2", 1), ("w3", 1), ("w4", 2), ("w5", 1), ("<eos>", 1)]


def test_characters_of_the_text():
    row = {"text": "w1 w2 w3", "weight_spans": [[0, 2, 0.0], [6, 8, 3.0]]}
    assert weigh(row) == [("w1", 0), ("w2", 1), ("w3", 3)]


def test_characters_of_message_contents():
    messages = [{"role": "user", "content": "w1"}, {"role": "assistant", "content": "w1 w2"}]
    row = {"messages": messages, "weight_spans": [[], [[0, 2, 2.0]]]}
    assert weigh(row, is_chat=True, unspanned=0.5) == [
        ("<user>", 0.5),
        ("w1", 0.5),
        ("<assistant>", 0.5),
        ("w1", 2),
        ("w2", 0.5),
        ("<eos>", 0.5),
    ]


def test_characters_of_a_conversational_completion():
    row = {
        "prompt": [{"role": "user", "content": "w1"}],
        "completion": [{"role": "assistant", "content": "w1 w2"}],
        "weight_spans": [[[3, 5, 2.0]]],
    }
    assert [weight for _, weight in weigh(row, is_chat=True)] == [1, 1, 1, 1, 2, 1]


def test_rows_may_have_no_span():
    assert {weight for _, weight in weigh({"text": "w1 w2", "weight_spans": []})} == {1.0}


def test_given_weights_are_kept():
    row = {"input_ids": [5, 6], "labels": [5, 6], "token_weight": [0, 2]}
    assert weigh(row) == [("w0", 0.0), ("w1", 2.0)]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], r"Row 1 .*1 values in `token_weight` for 2 tokens"),
        ([1.0, -2.0], r"Row 1 .*-2\.0"),
        ([1.0, float("nan")], r"Row 1 .*nan"),
    ],
)
def test_given_weights_that_cannot_be(weights, message):
    with pytest.raises(ValueError, match=message):
        weigh({"input_ids": [5, 6], "labels": [5, 6], "token_weight": weights})


def test_text_that_is_not_the_tokens_is_refused():
    with pytest.raises(ValueError, match="does not tokenise to its `input_ids`"):
        weigh({"input_ids": [5, 6], "text": "w1 w2", "weight_spans": [[0, 2, 2.0]]})


def test_a_span_outside_its_text_is_refused():
    with pytest.raises(ValueError, match=r"Row 1 of the train data set: span \[0.*, 9.*end <= 5"):
        weigh({"text": "w1 w2", "weight_spans": [[0, 9, 2.0]]})


def test_which_rows_carry_weight():
    assert carries_weight(tiny_models.token_rows(2, weights=True))
    assert not carries_weight(tiny_models.token_rows(2))
