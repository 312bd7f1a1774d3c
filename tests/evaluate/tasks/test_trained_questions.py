"""When a development question stands in a text of a training row: in any dress, and never another sum."""

import pytest

from qtarget.evaluate.tasks.trained_questions import QuestionIndex

LONG = "Natalia sold clips to 48 of her friends in April. How many clips did she sell?"
SUM = "3 - 2 + 7 * 9 - 0 ?"
DRESSES = {
    "plain": "{}",
    "quoted": '"{}"',
    "labelled": "Question: {}\nAnswer:",
    "labelled without a space": "Question:{}",
    "labelled in one line": "Q: {} A: 72",
    "ChatML": "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n72<|im_end|>",
    "ChatML after a system prompt": "<|im_start|>system\nYou answer.<|im_end|>\n<|im_start|>user\n{}<|im_end|>",
    "Llama": "<s>[INST]{}[/INST]",
    "Llama, spaced": "<s> [INST] <<SYS>>Be brief.<</SYS>> {} [/INST] 72</s>",
    "Gemma": "<start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n",
    "DeepSeek": "<｜User｜>{}<｜Assistant｜>",
    "ended by a token": "{}<eos>",
    "bold": "**{}**",
    "within a sentence": "Please: {} Thanks.",
    "an escaped line": "Question: {}\\nAnswer:",
}
SHORT = ("What is 2+2?", "Capital of France?", "12 * (3 + 4) = ?")


@pytest.mark.parametrize("question", [LONG, SUM, *SHORT])
@pytest.mark.parametrize("dress", DRESSES)
def test_a_question_is_found_in_any_dress(question: str, dress: str):
    assert QuestionIndex([question]).found_in(DRESSES[dress].format(question)) == question


@pytest.mark.parametrize("question", [LONG, SUM, *SHORT])
@pytest.mark.parametrize(
    "changed",
    [
        str.upper,
        lambda text: text.rstrip(" ?"),
        lambda text: text.replace("?", " ?"),
        lambda text: text.replace(" ", "  "),
        lambda text: text.replace(" ", "\u00a0"),
        lambda text: text + ".",
        lambda text: text.replace("-", "−"),
    ],
)
def test_a_question_is_found_however_it_is_spaced_capitalised_and_ended(question: str, changed):
    assert QuestionIndex([question]).found_in(changed(question)) == question


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("2+2", "12+2"),
        ("2+2", "2+2+5"),
        ("2+2", "Compute 1 + 2 + 2 ."),
        ("What is 2+2?", "What is 2-2?"),
        ("What is 2+2?", "What is 12+2?"),
        ("What is 3.5 + 2?", "What is 35 + 2?"),
        ("(2+3)*4", "2+(3*4)"),
        (SUM, "3 + 2 + 7 * 9 - 0 ?"),
        (SUM, "13 - 2 + 7 * 9 - 0 ?"),
        (SUM, "3 - 2 + 7 * 9 - 0 + 4 ?"),
        (SUM, "1 + 3 - 2 + 7 * 9 - 0 ?"),
        ("3 - 2", "3 - 2 + 7 * 9 - 0 ? 3 - 2 = 1 thus"),
        ("Can you help?", "I am lost. Can you help? It is late, and I am tired of it."),
        ("Yes", "Answer: yes"),
        (LONG, LONG.replace("48", "84")),
        (LONG, "How many clips did she sell?"),
        ("???", "!!!"),
    ],
)
def test_another_question_is_no_false_alarm(question: str, text: str):
    assert QuestionIndex([question]).found_in(text) is None
