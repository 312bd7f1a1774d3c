"""What of a conversation is learned, whatever its template."""

import re
from pathlib import Path

import pytest
import trl
from data.chat import chats

from qtarget.data.bad_rows.faults import RowFault
from qtarget.data.chat.conversation import Conversation
from qtarget.data.learned.learned_turns import learned_stretches

TALK = chats.talk(
    ("user", "What is 2+2?"), ("assistant", "It is 4."), ("user", "And 3+3?"), ("assistant", "That is 6.")
)
TRL_TEMPLATES = Path(trl.__file__).parent / "chat_templates"
TRL_ENDS = {
    "qwen2_5": "<|im_end|>",
    "qwen3_instruct_2507": "<|im_end|>",
    "lfm2": "<|im_end|>",
    "llama3": "<|eot_id|>",
    "gemma": "<end_of_turn>",
    "gemma3": "<end_of_turn>",
    "cohere": "<|END_OF_TURN_TOKEN|>",
    "phi3": "<|end|>",
    "deepseekv3": "<｜end▁of▁sentence｜>",
}
"""Templates of TRL's that keep earlier turns, each with a twin that has generation marks, and their end tokens."""


def learned(source, talk=TALK, learn="assistant", end="<|im_end|>"):
    text, stretches = learned_stretches(talk, chats.search_in(source, end), learn)
    return [text[start:stop] for start, stop in stretches]


@pytest.mark.parametrize("form", [chats.plain, chats.marked])
@pytest.mark.parametrize("family", chats.FAMILIES)
def test_every_turn_of_the_assistant_with_its_end_and_nothing_else(family, form):
    source, end, answer = chats.FAMILIES[family]
    expected = [answer.format("It is 4."), answer.format("That is 6.")]
    assert learned(form(source), end=end) == expected
    assert learned(form(source), learn="last", end=end) == expected[-1:]


@pytest.mark.parametrize("family", chats.FAMILIES)
def test_all_is_the_whole_text(family):
    source, end, _ = chats.FAMILIES[family]
    text, stretches = learned_stretches(TALK, chats.search_in(chats.plain(source), end), "all")
    assert stretches == [(0, len(text))]


@pytest.mark.parametrize("name", TRL_ENDS)
def test_marks_and_prefixes_agree_on_published_templates(name):
    files = [TRL_TEMPLATES / f"{name}{ending}.jinja" for ending in ("", "_training")]
    if not all(file.exists() for file in files):
        pytest.skip("this TRL ships other templates")
    by_prefixes, by_marks = (learned(file.read_text(encoding="utf-8"), end=TRL_ENDS[name]) for file in files)
    assert by_prefixes == by_marks
    assert [re.sub(r"<.*", "", turn).strip() for turn in by_marks] == ["It is 4.", "That is 6."]
    assert all(turn.endswith(TRL_ENDS[name]) for turn in by_marks)


@pytest.mark.parametrize("form", [chats.plain, chats.marked])
@pytest.mark.parametrize("family", chats.FAMILIES)
def test_answers_of_one_letter_that_headers_have_too(family, form):
    source, end, answer = chats.FAMILIES[family]
    talk = chats.talk(("user", "t"), ("assistant", "s"), ("user", "a"), ("assistant", "e"))
    assert learned(form(source), talk, end=end) == [answer.format("s"), answer.format("e")]


def test_a_base_model_s_end_token_is_not_that_of_the_turn():
    assert learned(chats.plain(chats.CHATML), end="<|endoftext|>") == ["It is 4.<|im_end|>", "That is 6.<|im_end|>"]


def test_a_template_without_end_tokens():
    source = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n\n{% endfor %}"
    source += "{% if add_generation_prompt %}assistant:{% endif %}"
    assert learned(source) == [" It is 4.", " That is 6."]


def test_marks_that_leave_the_end_of_the_turn_out():
    source = chats.CHATML.replace("<|im_end|>\n»", "»<|im_end|>\n")
    assert learned(chats.marked(source)) == ["It is 4.<|im_end|>", "That is 6.<|im_end|>"]


def test_marks_that_some_turns_lack_are_not_used():
    half = chats.CHATML.replace("«", "{% if loop.first %}{% generation %}{% endgeneration %}{% endif %}").replace(
        "»", ""
    )
    assert learned(half) == ["It is 4.<|im_end|>", "That is 6.<|im_end|>"]


def test_of_a_prompt_nothing_is_learned():
    turns = TALK.messages
    row = {"prompt": turns[:3], "completion": turns[3:]}
    for form in (chats.plain, chats.marked):
        assert learned(form(chats.CHATML), Conversation.of(row)) == ["That is 6.<|im_end|>"]


def test_a_tool_s_words_are_not_learned_and_calls_are():
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": 'Bonn "am" Rhein', "days": 3}}}
    talk = chats.talk(
        ("user", "Weather?"),
        {"role": "assistant", "content": "", "tool_calls": [call]},
        ("tool", "8 degrees"),
        ("assistant", "It is 8 degrees."),
    )
    for form in (chats.plain, chats.marked):
        first, second = learned(form(chats.CHATML), talk)
        assert first.startswith("<tool_call>")
        assert first.endswith("</tool_call><|im_end|>")
        assert 'Bonn \\"am\\" Rhein' in first
        assert second == "It is 8 degrees.<|im_end|>"


def test_earlier_turns_that_the_template_rewrites_are_refused_and_the_last_is_learned():
    with pytest.raises(RowFault) as refusal:
        learned(chats.THINKING)
    assert refusal.value.field == "messages[1]"
    assert "learn='last'" in refusal.value.remedy
    assert learned(chats.THINKING, learn="last") == ["<think>\n\n</think>\n\nThat is 6.<|im_end|>"]


def test_reasoning_may_be_dropped_only_where_it_is_not_learned():
    thought = "<think>two and two</think>It is 4."
    talk = chats.talk(("user", "2+2?"), ("assistant", thought), ("user", "3+3?"), ("assistant", "<think>hm</think>6"))
    assert learned(chats.THINKING, talk, "last") == ["<think>\nhm\n</think>\n\n6<|im_end|>"]
    for learn in ("assistant", "all"):
        with pytest.raises(RowFault, match="rewrites"):
            learned(chats.THINKING, talk, learn)
    dropped = chats.THINKING.replace("loop.index0 > ns.last", "false")
    with pytest.raises(RowFault, match="rewrites") as refusal:
        learned(dropped, talk, "last")
    assert "learn='all'" in refusal.value.remedy or "chat_template_path" in refusal.value.remedy


def test_a_header_that_only_the_question_has_is_said():
    source = chats.plain(chats.DEEPSEEK).replace("<｜Assistant｜>{% endif %}", "<｜Assistant｜><think>\n{% endif %}")
    with pytest.warns(UserWarning, match=r"<think>.*learned without it"):
        assert learned(source, end="<｜end▁of▁sentence｜>")[1] == "That is 6.<｜end▁of▁sentence｜>"


def test_thinking_can_be_switched_off_by_the_row():
    source = (
        chats.plain(chats.CHATML)
        .replace("assistant\n{% endif %}", "assistant\n{% if quiet %}<think></think>{% endif %}{% endif %}")
        .replace("assistant\n{{ m.content }}", "assistant\n{% if quiet %}<think></think>{% endif %}{{ m.content }}")
    )
    talk = chats.talk(("user", "2+2?"), ("assistant", "It is 4."), chat_template_kwargs={"quiet": True})
    assert learned(source, talk) == ["It is 4.<|im_end|>"]


def test_the_assistant_may_speak_first():
    assert learned(
        chats.plain(chats.LLAMA), chats.talk(("assistant", "Hello."), ("user", "Hi.")), end="<|eot_id|>"
    ) == ["Hello.<|eot_id|>"]


@pytest.mark.parametrize("learn", ["assistant", "last"])
def test_a_conversation_in_which_nobody_answers(learn):
    with pytest.raises(RowFault, match="no turn of the assistant"):
        learned(chats.plain(chats.LLAMA), chats.talk(("user", "Hi."), ("model", "Hello.")), learn)


def test_a_template_that_refuses_the_roles():
    with pytest.raises(RowFault) as refusal:
        learned(chats.plain(chats.GEMMA), chats.talk(("system", "Be kind."), ("user", "Hi."), ("assistant", "Hello.")))
    assert "System role not supported" in refusal.value.found
    assert "chat_template_path" in refusal.value.remedy
