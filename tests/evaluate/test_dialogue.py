"""`qtarget chat`: turns, where an answer ends, what is shown of it, and how it is stopped."""

import io
import sys
from pathlib import Path

import pytest
import torch
from job.command import run as command
from job.directories import model_directory
from peft import LoraConfig, get_peft_model
from tiny_models import tiny_model, tiny_tokenizer
from transformers import AutoTokenizer

from qtarget.evaluate.dialogue import AnswerSettings, Dialogue, ModelAnswer, Partner, TextStream
from qtarget.evaluate.generators.huggingface import HuggingFace
from qtarget.evaluate.generators.sampling import complete
from qtarget.evaluate.nouns import Request, SamplingProtocol
from qtarget.outcomes import Termination


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return Path(model_directory(tmp_path_factory.mktemp("chat") / "model", "llama", seed=1))


@pytest.fixture
def base_folder(tmp_path) -> Path:
    """A model without a chat template."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    tiny_model("llama").save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def type_in(monkeypatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def partner(folder: Path, **settings) -> Partner:
    return Partner(HuggingFace(str(folder)), AnswerSettings(**{"temperature": 0.0, "max_new_tokens": 8, **settings}))


def test_greedy_answers_are_those_of_evaluation(folder):
    """The same prompt ids, the same tokens, the same end."""
    ours = partner(folder)
    dialogue = Dialogue(ours.source.tokenizer)
    for line in ("w1 w2", "w3"):
        ids = dialogue.ask(line)
        request = Request("q", 0, 0, tuple(ids))
        (theirs,) = complete(ours.network, ours.source.tokenizer, [request], SamplingProtocol("chat", 1, 0.0, 1.0, 8))
        shown: list[str] = []
        answer = ours.answer(ids, shown.append)
        assert (answer.text, answer.finish) == (theirs.text, theirs.finish)
        assert "".join(shown) == answer.text
        dialogue.take(answer)
    assert [turn["role"] for turn in dialogue.turns] == ["user", "assistant"] * 2


def test_the_system_message_stands_first(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert Dialogue(tokenizer, "w9").ask("w1")[:4] == tokenizer("<user>w9<user>w1")["input_ids"][:4]


def test_draws_follow_the_seed(folder):
    def answer(seed):
        ours = partner(folder, temperature=2.0, seed=seed)
        return ours.answer(Dialogue(ours.source.tokenizer).ask("w1"), lambda text: None).text

    assert answer(1) == answer(1)
    assert len({answer(seed) for seed in range(5)}) > 1


def test_lines_are_answered_and_forgotten(folder, capsys, monkeypatch):
    type_in(monkeypatch, "w1 w2\n\n/reset\nw1 w2\n/nonsense\n/exit\nw3\n")
    said = command(capsys, "chat", str(folder), "--temperature", "0", "--max-new-tokens", "5")
    assert said.code == 0, said.err
    first, second = said.out.strip().splitlines()
    assert first == second != ""
    assert "the conversation begins anew" in said.err
    assert "no command /nonsense" in said.err
    assert "/exit" in said.err
    assert "no chat template" not in said.err


def test_a_base_model_goes_on_with_the_text_and_says_so(base_folder, capsys, monkeypatch):
    type_in(monkeypatch, "w1 w2\n")
    said = command(capsys, "chat", str(base_folder), "--temperature", "0", "--max-new-tokens", "5")
    assert said.code == 0, said.err
    assert "has no chat template: it goes on with your text" in said.err
    dialogue = Dialogue(AutoTokenizer.from_pretrained(base_folder))
    dialogue.ask("w1")
    dialogue.take(ModelAnswer(" w2", "length"))
    assert dialogue.ask(" w3") == AutoTokenizer.from_pretrained(base_folder)("w1 w2 w3")["input_ids"]
    refused = command(capsys, "chat", str(base_folder), "--system", "be brief")
    assert (refused.code, "--system" in refused.err) == (2, True)


def test_an_adapter_answers_too(folder, tmp_path, capsys, monkeypatch):
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(folder)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
    words = ("--temperature", "0", "--max-new-tokens", "8")
    type_in(monkeypatch, "w1\n")
    plain = command(capsys, "chat", str(folder), *words).out
    type_in(monkeypatch, "w1\n")
    said = command(capsys, "chat", str(tmp_path / "adapter"), *words)
    assert said.code == 0, said.err
    assert said.out.strip() != plain.strip() != ""


def test_what_would_command_the_terminal_is_spelled_out(tmp_path, capsys, monkeypatch):
    """The model says nothing but a sequence that clears the screen."""
    tokenizer = tiny_tokenizer(["\x1b[2J", "w1"])
    model = tiny_model("llama", vocab=len(tokenizer))
    model.lm_head.weight.data.zero_()
    folder = tmp_path / "hostile"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    clear = tokenizer.convert_tokens_to_ids("\x1b[2J")

    def hostile(self, prompt_ids, show):
        stream = TextStream(self.source.tokenizer, show)
        for ids in (prompt_ids, [clear], [clear]):
            stream.put(torch.tensor([ids]))
        stream.end()
        return ModelAnswer(stream.text, "length")

    monkeypatch.setattr(Partner, "answer", hostile)
    type_in(monkeypatch, "w1\n")
    said = command(capsys, "chat", str(folder))
    assert said.code == 0, said.err
    assert "\x1b" not in said.out
    assert "\\x1b[2J" in said.out


class Bytes:
    """A tokenizer whose tokens are bytes, as of byte-level models."""

    def decode(self, ids, skip_special_tokens=True):
        return bytes(ids).decode("utf-8", "replace")


def test_characters_are_shown_whole():
    shown: list[str] = []
    stream = TextStream(Bytes(), shown.append)  # type: ignore[arg-type]
    stream.put(torch.tensor([[1, 2]]))
    for byte in "aé🙂b".encode():
        stream.put(torch.tensor([byte]))
    stream.end()
    assert shown == ["a", "é", "🙂", "b"]


@pytest.mark.parametrize("stopped_by", [KeyboardInterrupt, Termination])
def test_ctrl_c_ends_the_answer_and_sigterm_the_command(folder, stopped_by):
    ours = partner(folder, max_new_tokens=100)
    pieces: list[str] = []

    def show(text):
        pieces.append(text)
        if len(pieces) == 3:
            raise stopped_by

    ids = Dialogue(ours.source.tokenizer).ask("w1")
    if stopped_by is Termination:
        with pytest.raises(Termination):
            ours.answer(ids, show)
    else:
        answer = ours.answer(ids, show)
        assert answer.finish == "interrupted"
        assert answer.text.startswith("".join(pieces[:2]))
    assert ours.network.generation_config is not None  # its own again


def test_a_conversation_beyond_the_positions_says_to_reset(folder, capsys, monkeypatch):
    type_in(monkeypatch, " ".join(["w1"] * 300) + "\nw1\n")
    said = command(capsys, "chat", str(folder), "--temperature", "0", "--max-new-tokens", "3")
    assert "/reset" in said.err
    assert said.code == 1
    assert len(said.out.strip().splitlines()) == 1  # the next line is answered


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere/at/all",), "nowhere"),
        (("MODEL", "--temperature", "-1"), "--temperature"),
        (("MODEL", "--temperature", "nan"), "--temperature"),
        (("MODEL", "--top-p", "0"), "--top-p"),
        (("MODEL", "--max-new-tokens", "0"), "--max-new-tokens"),
        (("MODEL", "--dtype", "float31"), "float31"),
    ],
)
def test_bad_words_are_refused_before_the_model_is_loaded(folder, capsys, monkeypatch, words, said):
    def never(self):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(Partner, "network", property(never))
    found = command(capsys, "chat", *(str(folder) if word == "MODEL" else word for word in words))
    assert found.code == 2
    assert said in found.err
