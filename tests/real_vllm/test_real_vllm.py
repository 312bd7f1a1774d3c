"""vLLM's own server as a teacher (`make test-vllm`): the evidence, the runs and the caches of the model itself.

QTARGET_VLLM_MODEL names a folder or a GGUF file of a real model, where one is at hand.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_models
import torch
from real_vllm.real_server import ENVIRONMENT, VARIABLE, RealServer, begun, real_server, tiny_llama
from teacher.test_served_run import AtStep
from train import parity
from transformers import AutoModelForCausalLM, AutoTokenizer

from qtarget.evaluate.generators.endpoint import Endpoint
from qtarget.evaluate.nouns import Request, SamplingProtocol
from qtarget.teacher import Document, Keep, LiveModel, documents_of_rows, kept_logprobs, load_live_model
from qtarget.teacher.served_store import open_store
from qtarget.train import TargetSFTConfig, TargetSFTTrainer

pytestmark = pytest.mark.skipif(not ENVIRONMENT.is_dir(), reason=f"{VARIABLE} names no environment: make test-vllm")
REAL = os.environ.get("QTARGET_VLLM_MODEL", "")
CPU = torch.device("cpu")
VOCAB, TOLERANCE = tiny_models.VOCAB, 2e-3
ROWS = list(documents_of_rows(tiny_models.token_rows(48)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def server(folder):
    with real_server(folder) as server:
        yield server


def live(folder: Path, vocab: int = VOCAB) -> LiveModel:
    return LiveModel(load_live_model(str(folder), "teacher", device=CPU, dtype="float32"), vocab)


def opened(server: RealServer, keep: Keep, tokenizer=None):
    return open_store(server.teacher, keep, tokenizer or tiny_models.tiny_tokenizer(), patience=300)


@pytest.mark.parametrize("k", [0, 16, 64, VOCAB])
def test_the_real_server_says_what_transformers_says(server, folder, k):
    found, expected = opened(server, Keep(k)).answer(ROWS), kept_logprobs(live(folder), ROWS, Keep(k))
    for name in ("logprobs", "log_tail", "label_logprobs"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=1e-3, rtol=0)
    assert (found.entropy <= expected.entropy + 1e-3).all()


def test_at_another_temperature_with_every_token(server, folder):
    keep = Keep(VOCAB, temperature=2.0)
    found, expected = opened(server, keep).answer(ROWS), kept_logprobs(live(folder), ROWS, keep)
    torch.testing.assert_close(found.logprobs.sort().values, expected.logprobs.sort().values, atol=1e-3, rtol=0)


def history(teacher: str, k: int = VOCAB, callbacks=(), **changes) -> dict[str, list[float]]:
    args = parity.common_args(max_steps=6, **changes)
    trainer = TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(method="target-sft", teacher=teacher, teacher_top_k=k, **args),
        train_dataset=tiny_models.prompt_completion(),
        processing_class=tiny_models.tiny_tokenizer(),
        callbacks=list(callbacks),
    )
    trainer.train()
    return parity.history(trainer)


def test_a_run_from_the_real_server_is_that_of_transformers(server, folder):
    whole = history(str(folder))
    assert max(parity.deviation(history(server.teacher), whole)) < TOLERANCE
    assert max(parity.deviation(history(server.teacher, dataloader_num_workers=1), whole)) < TOLERANCE


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--max-logprobs", "20"), "64 tokens are to be kept .*--max-logprobs 64"),
        (("--max-logprobs", "64", "--logprobs-mode", "raw_logits"), "these are logits and no log-probabilities"),
    ],
)
def test_a_server_that_lacks_a_flag_is_refused_with_the_line(folder, flags, words):
    with real_server(folder, *flags) as server, pytest.raises(ValueError, match=rf"(?s){words}") as caught:
        opened(server, Keep(64))
    assert f"vllm serve {folder} --port {server.port} --max-logprobs 64 --logprobs-mode raw_logprobs" in str(
        caught.value
    )


def test_a_document_as_long_as_the_server_takes(server):
    store = opened(server, Keep(4))
    assert len(store.answer([Document.of([5] * 511, [5] * 511)]).ids) == 510
    with pytest.raises(ValueError, match="--max-model-len 513"):
        store.answer([Document.of([5] * 512, [5] * 512)])


def config(folder: Path, teacher: str, **keys) -> Path:
    """A run's configuration in `folder`, beside its student and its rows."""
    tiny_models.tiny_model("llama").save_pretrained(folder / "student")
    tiny_models.tiny_tokenizer().save_pretrained(folder / "student")
    rows = tiny_models.prompt_completion(400)
    (folder / "rows.jsonl").write_text("".join(json.dumps(dict(row)) + "\n" for row in rows))
    values = {
        "model": "student", "train_dataset": "rows.jsonl", "method": "target-sft", "teacher": teacher,
        "output_dir": "out", "max_steps": 6, "logging_steps": 1, "teacher_top_k": 64,
        "cache_dtype": "float32", "cache_shard_tokens": 60, **keys,
    }  # fmt: skip
    path = folder / "config.yaml"
    path.write_text(json.dumps(values))
    return path


def qtarget(folder: Path, *words: str, **changes) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "qtarget", *words], cwd=folder, capture_output=True, text=True, timeout=540, **changes
    )


def losses(folder: Path) -> dict[str, float]:
    return json.loads((folder / "metrics.json").read_text())["train"]


def test_a_server_killed_in_the_middle_of_a_cache_and_started_again_loses_nothing(folder, tmp_path):
    """And the cache is that of the model; a run from it is the run from the model."""
    first = begun(folder)
    first.wait()
    config(tmp_path, first.teacher, teacher_cache="cache")
    writing = subprocess.Popen(
        [sys.executable, "-m", "qtarget", "teacher", "cache", "config.yaml"], cwd=tmp_path, stderr=subprocess.PIPE
    )
    try:
        while not (tmp_path / "cache/shard-00001.json").exists():
            assert writing.poll() is None, writing.stderr.read()
    finally:
        first.kill()
    assert not (tmp_path / "cache/manifest.json").exists()
    again = begun(folder, port=first.port)
    try:
        assert writing.wait(400) == 0, writing.stderr.read()
    finally:
        again.kill()
    checked = qtarget(tmp_path, "teacher", "verify", "cache", "--against", str(folder), "--rows", "32", "--json")
    found = json.loads(checked.stdout)
    assert checked.returncode == 0
    assert found["against"]["rows"] == 32
    assert found["against"]["largest"] < 1e-3
    assert found["parts"]["entropy"] == "lower bound"
    own = ("config.yaml", "--teacher", str(folder), "--teacher-cache", "own", "--output-dir", "from-own")
    for words in (("train", "config.yaml"), ("teacher", "cache", *own), ("train", *own)):
        done = qtarget(tmp_path, *words)
        assert done.returncode == 0, done.stderr
    served, loaded = losses(tmp_path / "out"), losses(tmp_path / "from-own")
    assert {name: served[name] for name in ("loss", "nll")} == {
        name: pytest.approx(loaded[name], rel=1e-3) for name in ("loss", "nll")
    }


def test_a_server_killed_in_the_middle_of_a_run_changes_nothing(folder):
    first = begun(folder)
    first.wait()
    second = []

    def kill_and_start():
        first.kill()
        second.append(begun(folder, port=first.port))

    try:
        disturbed = history(first.teacher, callbacks=[AtStep(2, kill_and_start)], teacher_timeout=300)
    finally:
        second[0].kill()
    assert first.process.returncode == -signal.SIGKILL
    assert max(parity.deviation(disturbed, history(str(folder)))) < TOLERANCE


def test_another_model_at_the_address_is_refused(folder, tmp_path):
    first = begun(folder, "--max-logprobs", "64", "--served-model-name", "teacher")
    first.wait()
    store = opened(first, Keep(16))
    first.kill()
    other = begun(
        tiny_llama(tmp_path, seed=5), "--max-logprobs", "64", "--served-model-name", "teacher", port=first.port
    )
    try:
        with pytest.raises(ValueError, match="another model is there now"):
            store.answer(ROWS)
    finally:
        other.kill()


def test_the_generator_of_evaluation_asks_the_real_server(server, folder):
    """Greedily, the tokens of transformers; by seeds, the same twice and others for another seed."""
    endpoint = Endpoint(str(folder), server.teacher)
    prompt = tuple(ROWS[0].ids.tolist())
    greedy, drawn = (SamplingProtocol("plain", temperature=t, max_new_tokens=8) for t in (0.0, 1.0))
    request = Request("q", 0, 7, prompt)
    (found,) = endpoint.generate([request], greedy)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    made = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=8)[0, len(prompt) :]
    assert found.text.split() == tokenizer.decode(made, skip_special_tokens=True).split()
    texts = [next(iter(endpoint.generate([request], drawn))).text for _ in range(2)]
    assert texts[0] == texts[1]
    assert next(iter(endpoint.generate([Request("q", 1, 8, prompt)], drawn))).text != texts[0]
    assert endpoint.version == "0.32.0"


def test_the_generator_of_evaluation_runs_in_process(folder):
    """In vLLM's own environment: greedily the tokens of the server's generator."""
    program = "\n".join(
        [
            "from qtarget.evaluate.generators.vllm import VLLM",
            "from qtarget.evaluate.nouns import Request, SamplingProtocol",
            "if __name__ == '__main__':",
            f"    vllm = VLLM({str(folder)!r}, dtype='float32', batch_size=4)",
            f"    request = Request('q', 0, 7, {tuple(ROWS[0].ids.tolist())!r})",
            "    asked = [SamplingProtocol('plain', temperature=t, max_new_tokens=8) for t in (0.0, 1.0, 1.0)]",
            "    print('FOUND', [next(iter(vllm.generate([request], each))).text for each in asked])",
            "    print('KNOWN', vllm.fingerprint()['generation']['version'])",
        ]
    )
    path = folder.parent / "in_process.py"
    path.write_text(program)
    python = ENVIRONMENT / "bin/python"
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    done = subprocess.run([python, path], capture_output=True, text=True, timeout=400, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    texts = eval(done.stdout.partition("FOUND ")[2].splitlines()[0])
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    prompt = torch.from_numpy(ROWS[0].ids).long()[None]
    made = model.generate(prompt, do_sample=False, max_new_tokens=8)[0, prompt.shape[1] :]
    assert texts[0].split() == tokenizer.decode(made, skip_special_tokens=True).split()
    assert texts[1] == texts[2]


@pytest.mark.skipif(not REAL, reason="QTARGET_VLLM_MODEL names no real model")
def test_a_real_model_says_what_transformers_says():
    tokenizer = AutoTokenizer.from_pretrained(REAL)
    texts = [
        "The teacher says what comes next, and how sure it is of it.",
        "17 * 6 = 102, as 10 * 6 = 60 and 7 * 6 = 42.",
    ]
    documents = [Document.of(ids, ids) for ids in tokenizer(texts)["input_ids"]]
    with real_server(Path(REAL)) as server:
        found = opened(server, Keep(64), tokenizer).answer(documents)
    expected = kept_logprobs(live(Path(REAL), len(tokenizer)), documents, Keep(64))
    torch.testing.assert_close(found.label_logprobs, expected.label_logprobs, atol=2e-3, rtol=0)
    torch.testing.assert_close(found.logprobs, expected.logprobs, atol=2e-3, rtol=0)
