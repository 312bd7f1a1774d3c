"""A row's conversation as its chat template writes it, and what is said where the template refuses it."""

import pytest
from data.chat import chats

from qtarget.data import RowFault
from qtarget.data.chat.chat_template import ChatTemplate
from qtarget.data.chat.conversation import Conversation

REFUSES = "{% for m in messages %}{{ raise_exception('no\x1b[2J such turn') }}{% endfor %}"
ASKED = [{"role": "user\x1b]0;title\x07", "content": "Hi"}]


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"messages": ASKED}, "messages"),
        ({"prompt": ASKED, "completion": [{"role": "assistant", "content": "Yes"}]}, "prompt"),
    ],
)
def test_a_refusal_is_one_line_and_names_the_column(row, field):
    template, talk = ChatTemplate(chats.byte_tokenizer(REFUSES)), Conversation.of(row)
    with pytest.raises(RowFault) as found:
        template.text(talk.until(1), asks=True)
    assert found.value.field == field
    assert "(roles: user\\x1b]0;title\\x07): no\\x1b[2J such turn" in found.value.found
    if field == "prompt":
        with pytest.raises(RowFault) as found:
            template.text(talk)
        assert found.value.field == "completion"
