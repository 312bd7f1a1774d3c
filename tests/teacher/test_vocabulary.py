"""Same tokens, whatever the padding; other tokens, refused."""

import models
import pytest

from qtarget.teacher import check_same_tokens, shared_rows


def test_equal_token_maps_are_let_through():
    check_same_tokens(models.tiny_tokenizer(), models.tiny_tokenizer(), "teacher")


def test_another_tokenizer_names_the_first_ids_that_differ():
    swapped = [models.WORDS[1], models.WORDS[0], *models.WORDS[2:]]
    with pytest.raises(ValueError, match=r"teacher has another tokenizer.*2 token ids differ, first 5: 'w0' and 'w1'"):
        check_same_tokens(models.tiny_tokenizer(), models.tiny_tokenizer(swapped), "teacher")


def test_a_token_that_one_side_lacks_differs():
    with pytest.raises(ValueError, match="99: 'w94' and None"):
        check_same_tokens(models.tiny_tokenizer(), models.tiny_tokenizer(models.WORDS[:-1]), "reference")


@pytest.mark.parametrize(("student", "teacher", "rows"), [(100, 112, 100), (112, 100, None), (100, 100, None)])
def test_padding_beyond_the_student_is_cut(student, teacher, rows):
    assert shared_rows(models.tiny_model(vocab=student), models.tiny_model(vocab=teacher)) == rows
