"""Words of other trainers, numbers that make no sense, and files that are no configuration."""

import re

import pytest
import yaml

from qtarget.data.user_files.yaml_file import parse_scalar, read_yaml
from qtarget.job.config.flags import parse_arguments
from qtarget.job.config.keys import TRL_NAMES, all_keys
from qtarget.job.config.other_words import LINES, SAME_VALUE, SPLIT_WORDS, UNNEEDED, WORDS, other_words_line
from qtarget.job.config.ranges import NUMBER_RANGES
from qtarget.job.config.read_job import read_job

BASE = ("--model", "llama", "--train-dataset", "rows.jsonl", "--method", "sft", "--output-dir", "out")


def complaint(*words: str) -> str:
    with pytest.raises(ValueError, match=r"[a-z]") as error:
        read_job(parse_arguments([*BASE, *words]))
    return str(error.value)


@pytest.mark.failure_case(25)
@pytest.mark.parametrize(
    ("word", "value", "line"),
    [
        ("lr", "1e-5", "learning_rate: 1e-05"),
        ("epochs", "3", "num_train_epochs: 3"),
        ("num_epochs", "2", "num_train_epochs: 2"),
        ("cutoff_len", "2048", "max_length: 2048"),
        ("sequence_len", "512", "max_length: 512"),
        ("micro_batch_size", "2", "per_device_train_batch_size: 2"),
        ("batch_size", "4", "per_device_train_batch_size: 4"),
        ("lora_rank", "8", "lora_r: 8"),
        ("sample_packing", "true", "packing: true"),
        ("gradient_accumulation", "4", "gradient_accumulation_steps: 4"),
        ("val_set_size", "0.1", "eval_dataset: held_out.jsonl"),
        ("warmup_ratio", "0.03", "warmup_steps: 0.03"),
        ("torch_dtype", "bfloat16", "dtype: bfloat16"),
        ("adapter", "lora", "use_peft: true"),
        ("finetuning_type", "qlora", "load_in_4bit: true"),
        ("quantization_bit", "8", "load_in_8bit: true"),
        ("flash_attn", "fa2", "attn_implementation: flash_attention_2"),
        ("lora_target_linear", "true", "lora_target_modules: all-linear"),
        ("LR", "1e-5", "learning_rate: 1e-05"),
    ],
)
def test_other_trainers_words_become_the_line_to_write(here, word, value, line):
    said = complaint(f"--{word}", value)
    assert f"unknown key `{word}`" in said
    assert f"`{line}`" in said
    assert "auto_find_batch_size" not in said
    assert "local_rank" not in said


def test_axolotls_list_of_data_sets(here):
    (here / "ax.yaml").write_text(
        "base_model: llama\ndatasets:\n  - path: a.jsonl\n    type: alpaca\n  - path: b.jsonl\n"
    )
    with pytest.raises(ValueError, match="unknown key") as error:
        read_job(parse_arguments(["ax.yaml"]))
    assert "ax.yaml, line 1: unknown key `base_model`; write `model: llama`" in str(error.value)
    assert "ax.yaml, line 2: unknown key `datasets`; write `train_dataset: [a.jsonl, b.jsonl]`" in str(error.value)


def test_the_tables_name_keys_that_are_there_and_shadow_none():
    assert set(SAME_VALUE) <= set(all_keys())
    assert set(NUMBER_RANGES) <= set(all_keys())
    theirs = {*WORDS, *LINES, *UNNEEDED, *SPLIT_WORDS}
    assert theirs & {*all_keys(), *TRL_NAMES} == set()
    assert sum(len(words.split()) for words in SAME_VALUE.values()) == len(WORDS)
    for make in LINES.values():
        for value in (True, "lora", "qlora", 4, "bf16", ["a"], [{"path": "a"}], {}, None):
            assert set(make(value)) <= set(all_keys())
    assert other_words_line("xyzzy", 1) is None


def test_everything_that_is_wrong_is_said_at_once(here):
    said = complaint(
        "--lr", "1", "--learning-rat", "2", "--eta", "1", "--seed", "x", "--max-length", "0", "--dtype", "f"
    )
    assert len(said.splitlines()) == 6
    for part in ("`lr`", "`learning_rat`", "`eta`", "`seed: 'x'`", "`max_length: 0`", "`dtype: f`"):
        assert part in said


def test_a_word_beside_ours_is_removed(here):
    assert "means the same as `learning_rate`, which is given too" in complaint("--lr", "1", "--learning-rate", "1")


@pytest.mark.parametrize("key", sorted(NUMBER_RANGES))
@pytest.mark.parametrize("value", ["-2", "nan", "inf", "-inf", "9" * 400])
def test_no_key_takes_a_number_that_makes_no_sense(here, key, value):
    if value == "9" * 400 and key.startswith(("seed", "data_seed")):
        value = "-9"
    said = complaint(f"--{key}={value}")
    assert f"`{key}: " in said
    assert re.search(rf"`{key}: [\w.e-]+`", said)


@pytest.mark.parametrize(
    "key", ["num_train_epochs", "learning_rate", "per_device_train_batch_size", "max_length", "lora_r", "max_steps"]
)
def test_nought_is_refused_where_nothing_would_be_learned(here, key):
    assert f"`{key}: 0` is out of range" in complaint(f"--{key}", "0")


def test_examples_of_ranges_are_in_them():
    assert [key for key, allowed in NUMBER_RANGES.items() if not allowed.has(allowed.example)] == []


@pytest.mark.parametrize("key", ["learning_rate", "seed", "max_length"])
def test_a_switch_is_no_number(here, key):
    assert "stands without a number" in complaint(f"--{key}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--lr-scheduler-type", "cosin"), 'did you mean "cosine"?'),
        (("--optim", "adamw_torh"), 'did you mean "adamw_torch"?'),
        (("--eval-strategy", "step"), 'did you mean "steps"?'),
        (("--teacher-dtype", "bf16"), 'did you mean "bfloat16"?'),
        (("--teacher", ""), "`teacher` is empty"),
        (("--bf16", "auto"), "Leave the line out"),
        (("--", "x"), "stands without a key"),
    ],
)
def test_names_and_empty_texts(here, words, said):
    assert said in complaint(*words)


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(8)
)
FILES = {
    "binary": (bytes(range(256)), "is no text"),
    "archive": (b"PK\x03\x04..", "is no text"),
    "UTF-16": ("model: x\n".encode("utf-16"), "is no text"),
    "latin-1": ("model: x\nseed: é\n".encode("latin-1"), "line 2: not UTF-8"),
    "empty": (b"# nothing\n", "is empty"),
    "list": (b"- a\n", "holds a list"),
    "text": (b"hello\n", "holds a single value"),
    "nested": (b"a: " + b"[" * 3000, "nests brackets too deeply"),
    "bomb": (BOMB.encode(), "holds more than 100,000 values"),
    "round": (b"a: &a [*a]\n", "holds more than 100,000 values"),
    "tab": (b"model: x\nlora:\n\tr: 1\n", "line 3, column 1: a tab"),
    "twice": (b"a: 1\na: 2\n", "line 2: `a` is already written on line 1"),
    "twice within": (b"a: {b: 1, b: 2}\n", "`b` is written twice"),
    "a list as key": (b"[a]: 1\n", "line 1: a key is a word"),
    "a tag": (b"a: !!int x\n", "holds a value that cannot be read"),
    "a number without end": (b"seed: " + b"9" * 5000, "holds a value that cannot be read"),
    "code": (b"a: !!python/object/apply:os.system [x]\n", "line 1, column 4: this is not YAML"),
}


@pytest.mark.parametrize("case", FILES)
def test_files_that_are_no_configuration(tmp_path, case):
    content, said = FILES[case]
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=re.escape("c.yaml")) as error:
        read_yaml(tmp_path / "c.yaml")
    assert said in str(error.value)
    assert len(str(error.value)) < 600


def test_values_of_flags_that_are_no_yaml(tmp_path):
    for text in ("[" * 3000, "&a [*a]", BOMB):
        with pytest.raises(ValueError, match=r"too deeply|100,000"):
            parse_scalar(text)
    assert parse_scalar("*a") == "*a"


def test_what_is_there_is_not_called_missing(here):
    """And a name that is not there is never offered as its own correction."""
    (here / "gone").symlink_to("nowhere")
    (here / "plain").write_text("x")
    for word, said in (("./gone", "is a link to nowhere"), ("./plain", "is a file, and a directory is wanted")):
        text = _of_model(word)
        assert said in text
        assert f"did you mean {word.removeprefix('./')}?" not in text


def _of_model(word: str) -> str:
    with pytest.raises(ValueError, match=r"[a-z]") as error:
        read_job(parse_arguments(["--model", word, "--train-dataset", "rows.jsonl", "--method", "sft"]))
    return str(error.value)


def test_the_bomb_is_one():
    assert len(yaml.safe_load(BOMB)["a"]) == 9
