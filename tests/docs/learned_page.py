"""Writes the examples of docs/what-is-learned.md: rows of every form, each as `qtarget validate` shows it.

Run by `make docs`: python tests/docs/learned_page.py
"""

import json
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from qtarget.data.user_files.yaml_file import YamlFile
from qtarget.disk.pages import rewrite_page
from qtarget.job.build import build_trainer
from qtarget.job.config.flags import RunArguments
from qtarget.job.config.read_job import check_job
from qtarget.job.config.user_input import user_input
from qtarget.job.validate import rehearse
from qtarget.job.validate_view import row_text

PAGE = Path(__file__).parents[2] / "docs" / "what-is-learned.md"
PIECE = r" ?\w+|[^\w\s]|\s"
SIGNS = ("<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>", "<|endoftext|>")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for call in m.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = CHATML.replace(
    "{{ m.content }}", "{% if loop.last %}{{ m.content }}{% else %}{{ m.content.split('</think>')[-1] }}{% endif %}"
)
"""Earlier turns lose what the assistant thought, as in Qwen3."""

SYSTEM = {"role": "system", "content": "Be brief."}
QUESTION = {"role": "user", "content": "What is 2+2?"}
ANSWER = {"role": "assistant", "content": "It is 4."}
MORE = {"role": "user", "content": "And 3+3?"}
LAST = {"role": "assistant", "content": "6."}
TALK = [SYSTEM, QUESTION, ANSWER, MORE, LAST]
CALL = {"type": "function", "function": {"name": "add", "arguments": {"terms": "2 2"}}}


class Example(NamedTuple):
    """A row, and the keys of the run that trains on it."""

    row: dict
    keys: dict = {}  # noqa: RUF012
    template: str = CHATML


EXAMPLES = {
    "messages": Example({"messages": TALK}),
    "last": Example({"messages": TALK}, {"learn": "last"}),
    "all": Example({"messages": TALK}, {"learn": "all"}),
    "chat_completion": Example({"prompt": [QUESTION, ANSWER, MORE], "completion": [LAST]}),
    "text_completion": Example({"prompt": "What is 2+2?", "completion": " It is 4."}),
    "sharegpt": Example({"conversations": [{"from": "human", "value": "And 3+3?"}, {"from": "gpt", "value": "6."}]}),
    "alpaca": Example({"instruction": "What is 2+2?", "input": "", "output": "It is 4."}),
    "questions": Example({"question": "What is 2+2?", "answer": "It is 4."}),
    "text": Example({"text": "It is 4."}),
    "tokens": Example({"input_ids": [18, 19, 20, 8, 9, 10, 11, 2], "labels": [-100, -100, -100, 8, 9, 10, 11, 2]}),
    "tools": Example(
        {
            "messages": [
                QUESTION,
                {"role": "assistant", "content": "", "tool_calls": [CALL]},
                {"role": "tool", "content": "4"},
                ANSWER,
            ]
        }
    ),
    "weights": Example({"messages": [QUESTION, ANSWER], "weight_spans": [[], [[6, 7, 3.0]]]}),
    "thinking": Example(
        {
            "messages": [
                QUESTION,
                {"role": "assistant", "content": "<think>2 and 2</think>It is 4."},
                MORE,
                {"role": "assistant", "content": "<think>3 and 3</think>6."},
            ]
        },
        {"learn": "last"},
        THINKING,
    ),
}


def learned_parts() -> dict[str, str]:
    """The parts of the page, by name: each example's row and keys, and the row as `qtarget validate` shows it."""
    with tempfile.TemporaryDirectory() as folder:
        model = _model(Path(folder))
        return {name: _part(example, model, Path(folder)) for name, example in EXAMPLES.items()}


def _part(example: Example, model: Path, folder: Path) -> str:
    row = json.dumps(example.row, ensure_ascii=False)
    (folder / "rows.jsonl").write_text(row + "\n", encoding="utf-8")
    (model / "chat_template.jinja").write_text(example.template, encoding="utf-8")
    keys = {
        "model": str(model),
        "train_dataset": str(folder / "rows.jsonl"),
        "output_dir": str(folder / "out"),
        "method": "sft",
        "bf16": False,
        "use_cpu": True,
        **example.keys,
    }
    trainer = build_trainer(check_job(user_input(YamlFile(keys, {}), RunArguments(None, {}))))
    line = "".join(f"\n{key}: {value}" for key, value in example.keys.items())
    shown = row_text(rehearse(trainer).row).plain.rstrip()
    return f"```text\n{row}{line}\n\n{shown}\n```"


def _model(folder: Path) -> Path:
    """A small model, with a tokenizer of the examples' own words and punctuation marks."""
    texts = json.dumps([example.row for example in EXAMPLES.values()], ensure_ascii=False)
    words = dict.fromkeys(re.findall(PIECE, texts + " system user assistant tool name add arguments terms\n"))
    bare = dict.fromkeys(word.strip(" ") for word in words if word.strip(" "))
    vocab = {piece: index for index, piece in enumerate(dict.fromkeys([*SIGNS, *words, *bare, "\n"]))}
    backend = Tokenizer(WordLevel(vocab, unk_token="<|endoftext|>"))
    backend.pre_tokenizer, backend.decoder = Split(Regex(PIECE), "isolated"), Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SIGNS[:1]) + list(SIGNS[2:6]),
    )
    tokenizer.chat_template = CHATML
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(vocab), num_key_value_heads=2, **sizes))
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder / "model"


if __name__ == "__main__":
    rewrite_page(PAGE, learned_parts())
