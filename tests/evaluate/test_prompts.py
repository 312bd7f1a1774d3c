"""Prompts as token ids: byte-exact, with one beginning of sequence, and the same as in training."""

from dataclasses import replace

import pytest
import tiny_models
from datasets import Dataset
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers import decoders as byte_decoders
from tokenizers.models import BPE
from train import parity
from transformers import PreTrainedTokenizerFast

from qtarget import lab
from qtarget.evaluate.nouns import Question, SamplingProtocol
from qtarget.evaluate.prompts import (
    BOXED,
    PROMPTS,
    check_as_trained,
    check_prompts_match,
    chosen_prompt,
    prompt_ids,
)
from qtarget.train import TargetSFTConfig, TargetSFTTrainer

QUESTION = Question("q", "What is $\\frac{1}{2}$ of {4}?\nA. two", "2")
QWEN = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
LLAMA = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>"]
CHAT = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"


def byte_tokenizer(special: list[str], bos: str | None = None, eos: str = "<|end_of_text|>", adds_bos: bool = False):
    """A token a byte, and special tokens: what it decodes is what it was given."""
    vocabulary = {sign: i for i, sign in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(BPE(vocabulary, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = byte_decoders.ByteLevel()
    backend.add_special_tokens(special)
    if adds_bos:
        assert bos is not None
        pair = [(bos, backend.token_to_id(bos))]
        backend.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=pair)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=bos, eos_token=eos, clean_up_tokenization_spaces=False
    )


@pytest.fixture
def qwen():
    return byte_tokenizer(QWEN, eos="<|endoftext|>")


@pytest.fixture
def llama():
    made = byte_tokenizer(LLAMA, bos="<|begin_of_text|>", adds_bos=True)
    made.chat_template = CHAT
    return made


def test_qwen_boxed_is_the_reference_byte_for_byte(qwen: PreTrainedTokenizerFast):
    ids = prompt_ids("qwen-boxed", QUESTION, qwen)
    assert qwen.decode(list(ids)) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nWhat is $\\frac{1}{2}$ of {4}?\nA. two\n"
        "Please reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    signs = [qwen.convert_tokens_to_ids(sign) for sign in QWEN[:2]]
    assert [ids.count(sign) for sign in signs] == [3, 2]


def test_qwen_boxed_adds_no_token_of_the_tokenizers_own():
    adding = byte_tokenizer([*QWEN, "<s>"], bos="<s>", eos="<|endoftext|>", adds_bos=True)
    assert adding("x")["input_ids"][0] == adding.bos_token_id
    ids = prompt_ids("qwen-boxed", QUESTION, adding)
    assert ids[0] == adding.convert_tokens_to_ids("<|im_start|>")
    assert adding.bos_token_id not in ids


def test_llama_boxed_begins_once(llama: PreTrainedTokenizerFast):
    ids = prompt_ids("llama-boxed", QUESTION, llama)
    assert llama.decode(list(ids)) == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
        "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nWhat is $\\frac{1}{2}$ of {4}?\nA. two\n"
        "Please reason step by step, and put your final answer within \\boxed{}.<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert list(ids).count(llama.bos_token_id) == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("chat", QUESTION.text),
        ("chat-boxed", f"{QUESTION.text}\nPlease reason step by step, and put your final answer within \\boxed{{}}."),
        ("m1", f"{QUESTION.text}\nReturn your final response within \\boxed{{}}."),
    ],
)
def test_chat_prompts_are_the_templates_own_with_one_beginning(name: str, said: str, llama: PreTrainedTokenizerFast):
    ids = prompt_ids(name, QUESTION, llama)
    assert llama.decode(list(ids)) == f"<|begin_of_text|>[user]{said}[assistant]"


def test_plain_is_the_question_as_the_tokenizer_begins_it(llama: PreTrainedTokenizerFast):
    assert llama.decode(list(prompt_ids("plain", QUESTION, llama))) == f"<|begin_of_text|>{QUESTION.text}"


@pytest.mark.parametrize(("name", "missing"), [("qwen-boxed", "<|im_start|>"), ("llama-boxed", "<|eot_id|>")])
def test_a_template_of_another_family_is_refused(name: str, missing: str):
    with pytest.raises(ValueError, match=r"letter by letter\. Write --prompt chat-boxed") as refusal:
        prompt_ids(name, QUESTION, tiny_models.tiny_tokenizer())
    assert missing in str(refusal.value)


@pytest.mark.failure_case(17)
def test_two_beginnings_are_refused(llama: PreTrainedTokenizerFast):
    doubled = Question("q", "<|begin_of_text|>What is 1 + 1?", "2")
    with pytest.raises(ValueError, match="two beginning-of-sequence tokens"):
        prompt_ids("plain", doubled, llama)


def test_a_template_that_begins_twice_is_refused(llama: PreTrainedTokenizerFast):
    llama.chat_template = "{{ bos_token }}" + CHAT
    with pytest.raises(ValueError, match="two beginning-of-sequence tokens"):
        prompt_ids("chat", QUESTION, llama)


def test_a_token_that_begins_and_ends_may_stand_again_but_not_twice_at_the_start():
    both = byte_tokenizer(["<|end|>"], bos="<|end|>", eos="<|end|>", adds_bos=True)
    assert prompt_ids("plain", Question("q", "one<|end|>two", ""), both).count(both.bos_token_id) == 2
    with pytest.raises(ValueError, match="two beginning-of-sequence tokens"):
        prompt_ids("plain", Question("q", "<|end|>one", ""), both)


def test_a_tokenizer_without_template_is_refused(qwen: PreTrainedTokenizerFast):
    with pytest.raises(ValueError, match=r"no chat template\. Write --prompt plain"):
        prompt_ids("m1", QUESTION, qwen)


def test_an_unknown_name_is_told_the_near_one(qwen: PreTrainedTokenizerFast):
    with pytest.raises(ValueError, match="Did you mean 'qwen-boxed'"):
        prompt_ids("qwen_boxed", QUESTION, qwen)
    names = {"qwen-boxed", "llama-boxed", "chat", "chat-boxed", "m1", "plain", "plain-boxed", "auto", "auto-boxed"}
    assert set(PROMPTS) == names


def test_a_prompt_may_depend_on_whether_there_is_a_chat_template(llama: PreTrainedTokenizerFast):
    words = "Say in a word: {question}"
    assert [chosen_prompt(name, llama) for name in ("auto", "auto-boxed", words)] == [
        "chat",
        "chat-boxed",
        f"chat:{words}",
    ]
    assert prompt_ids("auto-boxed", QUESTION, llama) == prompt_ids("chat-boxed", QUESTION, llama)
    asked = replace(QUESTION, text=f"Say in a word: {QUESTION.text}")
    assert prompt_ids(words, QUESTION, llama) == prompt_ids("chat", asked, llama)
    assert prompt_ids(f"plain:{words}", QUESTION, llama) == prompt_ids("plain", asked, llama)
    assert chosen_prompt("plain", llama) == "plain"
    llama.chat_template = None
    assert [chosen_prompt(name, llama) for name in ("auto", "auto-boxed", words)] == [
        "plain",
        "plain-boxed",
        f"plain:{words}",
    ]
    assert prompt_ids(words, QUESTION, llama) == prompt_ids("plain", asked, llama)
    decoded = llama.decode(list(prompt_ids("auto-boxed", QUESTION, llama)), skip_special_tokens=True)
    assert decoded == f"{QUESTION.text}\n{BOXED}\n"


def trained_ids(rows: list[dict]) -> list[int]:
    """The first row as the trainer holds it."""
    args = TargetSFTConfig(method="sft", **parity.common_args(max_steps=1))
    data = Dataset.from_list(rows)
    trainer = TargetSFTTrainer(
        tiny_models.tiny_model(), args, train_dataset=data, processing_class=tiny_models.tiny_tokenizer()
    )
    return trainer.train_dataset[0]["input_ids"]


@pytest.mark.failure_case(17)
def test_evaluation_asks_what_was_trained():
    tokenizer = tiny_models.tiny_tokenizer()
    question = Question("q", "w3 w1 w4", "w1")
    said = [{"role": "user", "content": question.text}], [{"role": "assistant", "content": "w1 w5"}]
    chat = trained_ids([{"prompt": said[0], "completion": said[1]}])
    check_as_trained(prompt_ids("chat", question, tokenizer), chat, tokenizer)
    plain = trained_ids([{"prompt": f"{question.text} ", "completion": "w1 w5"}])
    check_as_trained(prompt_ids("plain", question, tokenizer), plain, tokenizer)
    with pytest.raises(ValueError, match="part at token 0") as refusal:
        check_as_trained(prompt_ids("chat", question, tokenizer), plain, tokenizer)
    assert "<user>" in str(refusal.value)
    assert "w3" in str(refusal.value)


def test_a_row_shorter_than_the_prompt_is_refused():
    tokenizer = tiny_models.tiny_tokenizer()
    ids = prompt_ids("plain", Question("q", "w1 w2 w3", ""), tokenizer)
    with pytest.raises(ValueError, match="part at token 2"):
        check_as_trained(ids, ids[:2], tokenizer)


@pytest.mark.failure_case(17)
def test_prompts_other_than_trainings_are_refused_with_the_place_decoded_on_both_sides():
    tokenizer = lab.tokenizer(lab.world("weak-operator"))
    question, ask = Question("q7", "1 + 2 ?", "3"), SamplingProtocol("plain")
    check_prompts_match(ask, tokenizer, [(question, tokenizer("1 + 2 ? 1 + 2 = 3 so answer 3").input_ids)])
    with pytest.raises(ValueError, match=r"q7.*(.|\n)*part at token 2, where evaluation gives '2 \?' .* has '3 \?"):
        check_prompts_match(ask, tokenizer, [(question, tokenizer("1 + 3 ? 1 + 3 = 4 so answer 4").input_ids)])


def test_a_turn_marker_that_begins_texts_may_stand_at_every_turn():
    """SmolLM2's."""
    turns = byte_tokenizer(["<|im_start|>", "<|im_end|>"], bos="<|im_start|>", eos="<|im_end|>")
    turns.chat_template = (
        "<|im_start|>system\nBe brief.<|im_end|>{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "<|im_end|>{% endfor %}<|im_start|>assistant\n"
    )
    for name in ("chat", "chat-boxed", "m1", "qwen-boxed"):
        assert prompt_ids(name, QUESTION, turns).count(turns.bos_token_id) == 3
