"""A user's folder: two families of models, a teacher, rows and a configuration."""

import json
from pathlib import Path

import datasets
import pytest
from job.directories import link_into, model_directory, write_rows
from tiny_models import messages, prompt_completion

from qtarget.job.config.flags import RunArguments
from qtarget.job.config.read_job import read_job
from qtarget.job.training import prepare_training, run_training

CONFIG = """\
model: qwen2
train_dataset: rows.jsonl
eval_dataset: eval.parquet
method: target-sft
eta: 0.3
teacher: teacher
output_dir: out
max_steps: 4
save_steps: 2
logging_steps: 1
learning_rate: 1e-2
per_device_train_batch_size: 2
gradient_checkpointing: false
disable_tqdm: true
"""


def spaced(row: dict) -> dict:
    """The space between prompt and completion in the completion, where a byte-level tokenizer wants it."""
    return {"prompt": row["prompt"].strip(), "completion": " " + row["completion"]}


@pytest.fixture(scope="session")
def home(tmp_path_factory) -> Path:
    """Read by every test and written by none."""
    folder = tmp_path_factory.mktemp("home")
    datasets.config.HF_DATASETS_CACHE = folder / ".cache"
    model_directory(folder / "qwen2", "qwen2", seed=1)
    model_directory(folder / "teacher", "qwen2", seed=2, vocab=320)  # padded further, as Qwen2.5's sizes are
    model_directory(folder / "llama", "llama", seed=3)
    write_rows(folder / "rows.jsonl", [spaced(row) for row in prompt_completion(16, seed=1)])
    write_rows(folder / "chat.jsonl", list(messages(16, seed=1)))
    prompt_completion(4, seed=2).to_parquet(folder / "eval.parquet")
    (folder / "config.yaml").write_text(CONFIG)
    return folder


@pytest.fixture
def here(home, tmp_path, monkeypatch) -> Path:
    """A folder of the test's own, with everything of `home` in it by link."""
    link_into(tmp_path, home)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def finished(home, tmp_path_factory) -> Path:
    """The result of the configuration above."""
    folder = tmp_path_factory.mktemp("finished")
    link_into(folder, home)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_training(prepare_training(read_job(RunArguments(Path("config.yaml"), {}))))
    return folder / "out"


@pytest.fixture
def written(here):
    """Writes lines to a file and returns its name."""

    def write(name: str, *lines: str | dict) -> str:
        text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        (here / name).write_text("\n".join(text) + "\n")
        return name

    return write
