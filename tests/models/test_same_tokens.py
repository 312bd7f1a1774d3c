"""Same tokens, whatever the padding; other tokens, refused."""

import pytest
import tiny_models
import torch

from qtarget.teacher import LiveModel, check_padding, check_same_map, check_same_tokens, number_of_tokens


def test_equal_token_maps_are_let_through():
    check_same_tokens(tiny_models.tiny_tokenizer(), tiny_models.tiny_tokenizer(), "teacher")


@pytest.mark.failure_case(7)
def test_another_tokenizer_names_the_first_ids_that_differ():
    swapped = [tiny_models.WORDS[1], tiny_models.WORDS[0], *tiny_models.WORDS[2:]]
    with pytest.raises(ValueError, match=r"teacher has another tokenizer.*2 token ids differ, first 5: 'w0' and 'w1'"):
        check_same_tokens(tiny_models.tiny_tokenizer(), tiny_models.tiny_tokenizer(swapped), "teacher")


def test_a_token_that_one_side_lacks_differs():
    with pytest.raises(ValueError, match=r"the student's has 1 token\(s\) more, first 99: 'w94'.*add them to the ref"):
        check_same_tokens(tiny_models.tiny_tokenizer(), tiny_models.tiny_tokenizer(tiny_models.WORDS[:-1]), "reference")


def test_added_tokens_beside_the_familys_are_named():
    added = tiny_models.tiny_tokenizer()
    added.add_tokens(["<tool>"])
    with pytest.raises(
        ValueError, match=r"of the student's family, but the teacher's has 1 .*100: '<tool>', of which the"
    ):
        check_same_tokens(tiny_models.tiny_tokenizer(), added, "teacher")


def test_maps_that_came_over_a_wire_are_compared_too():
    check_same_map({"a": 0, "b": 1}, {"b": 1, "a": 0}, "teacher")
    with pytest.raises(ValueError, match="1: 'b' and 'c'"):
        check_same_map({"a": 0, "b": 1}, {"a": 0, "c": 1}, "teacher")


def test_tokens_are_counted_to_the_highest_id():
    assert number_of_tokens(tiny_models.tiny_tokenizer().get_vocab()) == tiny_models.VOCAB
    assert number_of_tokens({"a": 0, "b": 7}) == 8
    tokenizer = tiny_models.tiny_tokenizer()
    tokenizer.add_tokens(["new"])
    assert number_of_tokens(tokenizer.get_vocab()) == tiny_models.VOCAB + 1


def with_padding(logit):
    """A live model with 28 rows beyond its tokens, each of the same logit at every position."""
    model = tiny_models.tiny_model(vocab=tiny_models.VOCAB + 28)
    layer = torch.nn.Linear(32, tiny_models.VOCAB + 28)
    layer.weight.data[: tiny_models.VOCAB] = tiny_models.tiny_model().lm_head.weight
    layer.weight.data[tiny_models.VOCAB :], layer.bias.data[:] = 0, 0
    layer.bias.data[tiny_models.VOCAB :] = logit
    model.set_output_embeddings(layer)
    return LiveModel(model.eval(), tiny_models.VOCAB)


def test_mass_on_rows_without_a_token_is_measured(recwarn):
    check_padding(with_padding(-20.0), tiny_models.tiny_tokenizer(), "teacher")
    assert not [warning for warning in recwarn if "mass" in str(warning.message)]
    with pytest.warns(UserWarning, match=r"teacher puts 1\d\.\d% of its mass on rows .* \(from 100 on\)"):
        check_padding(with_padding(0.0), tiny_models.tiny_tokenizer(), "teacher")
    with pytest.raises(ValueError, match=r"reference puts 9\d\.\d% .* does not belong to this tokenizer"):
        check_padding(with_padding(6.0), tiny_models.tiny_tokenizer(), "reference")
