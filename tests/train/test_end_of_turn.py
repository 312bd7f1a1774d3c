"""Rows that do not teach a model to stop are told from those that do."""

import pytest
import tiny_models
from datasets import Dataset

from qtarget.data import Asker
from qtarget.train.end_of_turn import EndCheck, check_ends, end_tokens

TOKENIZER = tiny_models.tiny_tokenizer()
EOS, USER, WORD = (TOKENIZER.convert_tokens_to_ids(token) for token in ("<eos>", "<user>", "w7"))


def check(*labels, ends=(EOS,), max_length=None, asker=Asker.COMMAND_LINE, is_refused=True, stream=False, **columns):
    rows = Dataset.from_dict({"labels": list(labels), "input_ids": list(labels), **columns})
    rows = rows.to_iterable_dataset() if stream else rows
    check_ends(rows, ends, EndCheck("train", TOKENIZER, max_length, asker, is_refused))


@pytest.mark.parametrize("stream", [False, True])
def test_one_row_that_ends_is_enough(stream):
    check([WORD, WORD, USER], [WORD, WORD, EOS, -100], stream=stream)


@pytest.mark.parametrize("stream", [False, True])
def test_a_sign_that_generation_does_not_stop_at(stream):
    with pytest.raises(ValueError, match=r"'<user>' in 2 of 2 rows.*stops at '<eos>'.*`eos_token: <user>`") as refusal:
        check([WORD, WORD, USER], [WORD, USER, -100], stream=stream)
    assert "--eos-token '<user>'" in str(refusal.value)


def test_a_python_user_reads_python():
    with pytest.raises(ValueError, match=r"TargetSFTConfig\(eos_token='<user>'\)"):
        check([WORD, USER], asker=Asker.PYTHON)


def test_a_word_at_the_end():
    with pytest.raises(ValueError, match=r"'w7' in 1 of 1 rows.*chat template.*template.jinja"):
        check([WORD, WORD])


def test_a_warning_where_it_is_not_refused():
    with pytest.warns(UserWarning, match="No row of the train data set teaches the model to stop"):
        check([WORD, WORD], is_refused=False)


def test_the_first_token_is_no_end_for_it_is_not_learned():
    with pytest.raises(ValueError, match="to stop"):
        check([EOS, WORD])


def test_rows_that_may_be_cut_say_nothing():
    check([WORD, WORD, WORD], max_length=3)
    with pytest.raises(ValueError, match="1 of 1 rows"):
        check([WORD, WORD, WORD], [WORD, WORD], max_length=3)


def test_packed_rows_are_looked_at_document_by_document():
    check([WORD, EOS, WORD, WORD], seq_lengths=[[2, 2]])
    with pytest.raises(ValueError, match="2 of 2 rows"):
        check([WORD, WORD, EOS, WORD], seq_lengths=[[2, 2]])  # EOS begins a document


def test_where_generation_stops():
    model = tiny_models.tiny_model()
    for given, expected in ((None, {EOS}), (WORD, {EOS, WORD}), ([USER, WORD], {EOS, USER, WORD})):
        model.generation_config.eos_token_id = given
        assert end_tokens(model, TOKENIZER) == expected
