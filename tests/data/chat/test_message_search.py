"""Messages that a template loses or rewrites are found out; what it only writes otherwise is not taken for lost."""

import pytest
from data.chat import chats

from qtarget.data.bad_rows.faults import RowFault

CALL = {"function": {"name": "weather", "arguments": {"city": "Bonn", "when": {"day": "Monday"}, "hours": [1, "two"]}}}


def check(source, *turns, learned=None, **more):
    talk, search = chats.talk(*turns, **more), chats.search_in(chats.plain(source))
    search.check(talk, search.template.text(talk), talk.turns if learned is None else learned)


def lost(source, *turns, **more):
    with pytest.raises(RowFault) as refusal:
        check(source, *turns, **more)
    return refusal.value


def test_short_words_that_the_template_uses_too():
    check(chats.CHATML, ("system", "a"), ("user", "user"), ("assistant", "user"))


@pytest.mark.parametrize("role", ["bot", "gpt", "human", "function", "Assistant"])
def test_a_role_that_the_template_does_not_know(role):
    fault = lost(chats.CHATML, ("user", "hello"), (role, "world"))
    assert fault.field == "messages[1].content"
    assert role in fault.reason
    assert "chat_template_path" in fault.remedy


def test_a_lost_word_that_stands_elsewhere_is_lost_all_the_same():
    assert lost(chats.CHATML, ("human", "helpful"), ("assistant", "a")).field == "messages[0].content"
    assert lost(chats.CHATML, ("user", "Say a."), ("bot", "a"), ("user", "a and a")).field == "messages[1].content"


def test_words_that_are_rewritten():
    source = chats.CHATML.replace("m.content", "m.content | upper")
    assert "word for word" in lost(source, ("user", "hello"), ("assistant", "world")).found


def test_words_that_are_cut_off():
    source = chats.CHATML.replace("{{ m.content }}", "{{ m.content[:20] }}")
    assert (
        lost(source, ("user", "hello"), ("assistant", "a long answer, longer than others")).field
        == "messages[1].content"
    )


def test_blanks_around_words_may_go():
    check(chats.LLAMA, ("user", " hello \n"), ("assistant", "\n\nworld  "))


def test_the_system_s_words_may_stand_elsewhere():
    check(
        chats.MISTRAL,
        ("system", "Be kind."),
        ("user", "one"),
        ("assistant", "two"),
        ("user", "three"),
        ("assistant", "four"),
    )


def test_empty_contents_are_nothing_to_find():
    check(chats.CHATML, ("system", ""), ("user", "hello"), {"role": "assistant", "content": "", "tool_calls": [CALL]})


def test_a_tool_s_answer_may_be_written_as_json():
    source = chats.CHATML.replace("<tool_response>\n{{ m.content }}", "<tool_response>\n{{ m.content | tojson }}")
    check(source, ("user", "hello"), ("assistant", "ok"), ("tool", 'say "8°"\nnow'), ("assistant", "8"))


def test_tool_calls_are_looked_for():
    turns = ("user", "hello"), {"role": "assistant", "content": "", "tool_calls": [CALL]}
    check(chats.CHATML, *turns)
    silent = chats.CHATML.replace("{{ call.function | tojson }}", "")
    assert lost(silent, *turns).field == "messages[1].content"
    nameless = chats.CHATML.replace("call.function | tojson", "call.function.arguments | tojson")
    assert lost(nameless, *turns).field == "messages[1].content"
    shallow = chats.CHATML.replace("call.function | tojson", "call.function.name ~ ' Bonn city when hours two day'")
    assert lost(shallow, *turns).field == "messages[1].content"  # Monday is missing


def test_words_beside_a_tool_call_must_be_there_too():
    source = chats.CHATML.replace("{{ m.content }}{% for", "{{ '' if m.tool_calls else m.content }}{% for")
    turn = {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]}
    assert lost(source, ("user", "hello"), turn).field == "messages[1].content"


def test_reasoning_under_its_own_key():
    turn = {"role": "assistant", "content": "8", "reasoning_content": "four and four"}
    check(chats.THINKING, ("user", "4+4?"), turn)
    assert lost(chats.CHATML, ("user", "4+4?"), turn).field.startswith("messages[1]")
    check(chats.CHATML, ("user", "4+4?"), turn, ("user", "and 1?"), ("assistant", "9"), learned=[3])


def test_a_template_that_looks_into_contents_is_taken_at_its_word():
    source = chats.CHATML.replace(
        "{% for m in messages %}",
        "{% if 'x' not in messages[0].content %}{{ raise_exception('x') }}{% endif %}{% for m in messages %}",
        1,
    )
    check(source.replace("if messages[0].role != 'system'", "if false"), ("user", "x"), ("assistant", "y"))
