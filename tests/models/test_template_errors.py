"""What is said of an error depends on whether it came from a chat template."""

import json

import pytest
from data.chat import chats

from qtarget.models.template_errors import is_no_template, is_of_template, place_in_template, words_of_template


def raised_by(template: str) -> BaseException:
    messages = [{"role": "user", "content": "Hi"}]
    try:
        chats.byte_tokenizer(template).apply_chat_template(messages, tokenize=False)
    except Exception as error:  # of any kind
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("template", "place", "words"),
    [
        ("{% for m in messages %}", ", line 1", "Unexpected end of template"),
        ("a\n{{ raise_exception('only even turns') }}", ", line 2", "only even turns"),
        ("a\n{% macro m() %}{{ 1 / 0 }}{% endmacro %}\n\n{{ m() }}", ", line 2", "ZeroDivisionError: division by zero"),
    ],
)
def test_an_error_of_a_template(template, place, words):
    error = raised_by(template)
    assert is_of_template(error)
    assert is_no_template(error) == template.startswith("{% for")
    assert place_in_template(error) == place
    assert words_of_template(error).startswith(words)


def test_a_line_of_something_else_is_no_line_of_the_template():
    with pytest.raises(json.JSONDecodeError) as found:
        json.loads("\n[")
    assert not is_of_template(found.value)
    assert place_in_template(found.value) == ""
