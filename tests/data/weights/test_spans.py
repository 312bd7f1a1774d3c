"""Weights on characters become weights on tokens."""

import pytest
import tiny_models

from qtarget.data import message_spans, span_weights

OFFSETS = [(0, 0), (0, 2), (3, 5), (6, 8)]  # a special token, then "w0 w1 w2"


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([], [1, 1, 1, 1]),
        ([(3, 5, 2.0)], [1, 1, 2, 1]),
        ([(0, 8, 0.0)], [1, 0, 0, 0]),
        ([(4, 7, 3.0)], [1, 1, 3, 3]),  # one character of a token is enough
        ([(3, 4, 9.0), (6, 7, 2.0), (7, 8, 5.0)], [1, 1, 9, 2]),
        ([(5, 6, 7.0)], [1, 1, 1, 1]),  # the space between tokens
    ],
)
def test_a_token_takes_the_weight_of_the_span_that_covers_most_of_it(spans, expected):
    assert span_weights(OFFSETS, spans) == expected


def test_most_characters_win():
    assert span_weights([(0, 6)], [(0, 2, 1.0), (2, 6, 4.0)]) == [4.0]
    assert span_weights([(0, 6)], [(0, 4, 1.0), (4, 6, 4.0)]) == [1.0]


def test_tokens_outside_take_the_weight_given():
    assert span_weights(OFFSETS, [(3, 5, 2.0)], unspanned=0.0) == [0, 0, 2, 0]


def render(messages, template=tiny_models.CHAT_TEMPLATE):
    return tiny_models.tiny_tokenizer().apply_chat_template(messages, tokenize=False, chat_template=template)


def talk(*contents):
    roles = ["user", "assistant"] * len(contents)
    return [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]


def test_spans_of_messages_are_found_in_the_rendered_text():
    messages = talk("w1 w2", "user w1", "w1 w2", "w1 w2")  # contents repeat, and repeat the template's own words
    text, spans = message_spans(messages, [[], [[0, 4, 2.0]], [], [[3, 5, 0.5], [0, 2, 1.5]]], render, "row 0")
    assert text == render(messages)
    assert [text[int(a) : int(b)] for a, b, _ in spans] == ["user", "w2", "w1"]
    assert [weight for *_, weight in spans] == [2.0, 0.5, 1.5]
    assert spans[1][0] > text.rindex("<assistant>")


def test_a_template_that_trims_keeps_the_place():
    trimmed = tiny_models.CHAT_TEMPLATE.replace("message.content", "message.content | trim")
    text, spans = message_spans(talk("w1", "  w2 w3 "), [[], [[5, 7, 2.0]]], lambda m: render(m, trimmed), "row 0")
    assert [text[a:b] for a, b, _ in spans] == ["w3"]


def test_a_template_that_rewrites_messages_is_refused():
    shouted = tiny_models.CHAT_TEMPLATE.replace("message.content", "message.content | upper")
    with pytest.raises(ValueError, match=r"row 7: the chat template changes what its messages say.*token_weight"):
        message_spans(talk("w1", "w2"), [[], [[0, 2, 2.0]]], lambda m: render(m, shouted), "row 7")


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([[], [[0, 99, 1.0]]], r"0 <= start < end <= 5"),
        ([[], [[2, 2, 1.0]]], r"start < end"),
        ([[], [[0, 2, -1.0]]], r"weight >= 0.*Rows hold no weights below 0.*unlikelihood"),
        ([[], [[0, 2, float("nan")]]], r"weight >= 0"),
        ([[[0, 2, 1.0]]], r"1 lists of spans for 2 messages"),
    ],
)
def test_spans_that_cannot_be(spans, message):
    with pytest.raises(ValueError, match=message):
        message_spans(talk("w1", "w2 w3"), spans, render, "row 0")
