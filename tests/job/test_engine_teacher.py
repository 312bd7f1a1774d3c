"""Commands whose teacher is behind vLLM or SGLang: validate, a dry run, a cache, its verification, and training."""

import json
import shutil
from pathlib import Path

import pytest
from job.command import run as command
from job.directories import model_directory
from teacher.engine_servers import Likeness

from qtarget.teacher.cache import open_cache

LAYOUTS = pytest.mark.parametrize(
    "layout", [(), ("--cache-missing-mass", "0.95", "--cache-max-k", "32")], ids=["fixed", "by mass"]
)
WHOLE = ("--teacher-top-k", "1000", "--cache-dtype", "float32")
TOKENS = 320
"""Rows of the teacher's output layer, more than there are tokens."""


@pytest.fixture
def teacher(here) -> Path:
    """A teacher without rows that stand for no token: what their mass is, an engine says of the likeliest alone."""
    model_directory(here / "whole", "qwen2", seed=2)
    return here / "whole"


def wrote(capsys, address: str, *words: str, folder: str = "cache"):
    return command(capsys, "teacher", "cache", "config.yaml", "--teacher-cache", folder, "--teacher", address, *words)


def figures(folder: Path) -> dict:
    metrics = json.loads((folder / "metrics.json").read_text())
    return {part: {name: metrics[part][name] for name in ("loss", "nll")} for part in ("train", "eval")}


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_live_and_cached_it_trains_as_the_model_does(here, teacher, capsys, kind):
    """All tokens are kept; what remains is rounding."""
    said = command(capsys, "train", "config.yaml", "--teacher", str(teacher), "--output-dir", "model")
    assert said.code == 0, said.err
    with Likeness(teacher, kind, cap=TOKENS).up() as address:
        assert command(capsys, "validate", "config.yaml", "--teacher", address, "--teacher-top-k", "200").code == 0
        live = command(capsys, "train", "config.yaml", "--teacher", address, *WHOLE[:2], "--output-dir", "live")
        assert live.code == 0, live.err
        said = wrote(capsys, address, *WHOLE)
        assert said.code == 0, said.err
    cached = command(  # the server is gone
        capsys, "train", "config.yaml", "--teacher", address, "--teacher-cache", "cache", "--output-dir", "cached"
    )
    assert cached.code == 0, cached.err
    expected = figures(here / "model")
    for name in ("live", "cached"):
        assert {part: pytest.approx(value, rel=1e-4) for part, value in figures(here / name).items()} == expected


@pytest.mark.parametrize("name", ["inspect", "estimate", "validate"])
def test_every_command_that_opens_a_teacher_takes_its_address(here, teacher, capsys, name):
    server = Likeness(teacher)
    with server.up() as address:
        said = command(capsys, name, "config.yaml", "--teacher", address, "--json")
    assert said.code == 0, said.err
    assert server.asked > 2
    if name == "estimate":
        assert min(json.loads(said.out)["teacher_seconds"]["teacher 0"]) > 0


def test_a_reference_may_be_behind_one(here, teacher, capsys):
    words = (
        "--method",
        "sft-kl",
        "--kl-weight",
        "0.5",
        "--teacher",
        "null",
        "--eta",
        "null",
        "--teacher-top-k",
        "1000",
    )
    with Likeness(teacher, cap=TOKENS).up() as address:
        said = command(capsys, "train", "config.yaml", *words, "--reference", address, "--output-dir", "served")
    assert said.code == 0, said.err
    said = command(capsys, "train", "config.yaml", *words, "--reference", str(teacher), "--output-dir", "model")
    assert said.code == 0, said.err
    assert figures(here / "served")["train"]["loss"] == pytest.approx(
        figures(here / "model")["train"]["loss"], rel=1e-4
    )


def test_the_cache_says_what_was_known_and_a_method_that_needs_more_is_refused(here, teacher, capsys):
    with Likeness(teacher).up() as address:
        assert wrote(capsys, address).code == 0
        eta = "{from: 0.2, to: 0.8, along: teacher_uncertainty}"
        refused = command(capsys, "validate", "config.yaml", "--teacher", address, "--eta", eta)
        no_cache = wrote(capsys, address, "--eta", eta, folder="other")
    parts = open_cache(here / "cache").manifest.parts
    assert (parts["entropy"], parts["teacher"]) == ("lower bound", f"{teacher}, served by vLLM")
    assert parts["compute_dtype"] == "vLLM 0.32.0"
    from_cache = command(
        capsys, "validate", "config.yaml", "--teacher", "null", "--teacher-cache", "cache", "--eta", eta
    )
    for said in (refused, no_cache, from_cache):
        assert said.code == 2
        assert "reads the teacher 0's entropy" in said.err
        assert "an inference engine gives none" in said.err


def test_where_every_token_is_kept_a_cache_has_the_entropy_as_a_live_run_has(here, teacher, capsys):
    eta = ("--eta", "{from: 0.2, to: 0.8, along: teacher_uncertainty}", *WHOLE)
    with Likeness(teacher, cap=TOKENS).up() as address:
        live = command(capsys, "train", "config.yaml", "--teacher", address, *eta, "--output-dir", "live")
        said = wrote(capsys, address, *eta)
    assert (live.code, said.code) == (0, 0), said.err
    assert "entropy" not in open_cache(here / "cache").manifest.parts
    words = ("--teacher", address, "--teacher-cache", "cache", "--output-dir", "cached", *eta)
    assert command(capsys, "train", "config.yaml", *words).code == 0
    assert figures(here / "cached")["train"] == pytest.approx(figures(here / "live")["train"], rel=1e-3)


def test_a_dry_run_asks_the_server_and_writes_nothing(here, teacher, capsys):
    with Likeness(teacher).up() as address:
        said = wrote(capsys, address, "--dry-run", "--json")
    (found,) = json.loads(said.out)
    assert found["pilot"]["device"] == f"server at {address}"
    assert found["pilot"]["documents"] == 20
    assert found["seconds"] > 0
    assert not (here / "cache").exists()


@LAYOUTS
def test_verify_computes_rows_again(here, teacher, capsys, layout):
    with Likeness(teacher).up() as address:
        assert wrote(capsys, address, "--cache-dtype", "float32", *layout).code == 0
    said = command(capsys, "teacher", "verify", "cache", "--against", str(teacher), "--rows", "5", "--json")
    found = json.loads(said.out)["against"]
    assert said.code == 0
    assert (found["rows"], found["is_same"], found["rounding"]) == (5, True, 0.0)
    assert found["largest"] < 1e-4
    model_directory(here / "second", "qwen2", seed=9)
    said = command(capsys, "teacher", "verify", "cache", "--against", "second")
    assert said.code == 1
    assert "These are not the log-probabilities of second" in said.out
    said = command(capsys, "teacher", "verify", "cache", "--against", "llama")
    assert (said.code, "llama has another tokenizer than the rows of cache" in said.err) == (2, True)
    shown = command(capsys, "teacher", "verify", "cache", "--against", str(teacher))
    assert "tokens of 8 rows computed again" in shown.out
    assert "nats of a log-probability (token " in shown.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("vllm+http://127.0.0.1:9",), "is the address of a server, and rows are computed again with a model that"),
        (("cut",), "cut has an output layer of 100 rows, and cache is over 305 tokens"),
        (
            ("teacher", "--dtype", "float7"),
            "'float7' is no dtype of torch's; write float32, bfloat16, float16, or auto",
        ),
        (("nowhere/there",), "--against"),
    ],
)
def test_what_a_cache_cannot_be_verified_against_is_refused(here, capsys, words, said):
    assert command(capsys, "teacher", "cache", "config.yaml", "--teacher-cache", "cache").code == 0
    model_directory(here / "cut", "qwen2", seed=2, vocab=100)
    found = command(capsys, "teacher", "verify", "cache", "--against", *words)
    assert (found.code, "Traceback" in found.err) == (2, False)
    assert said in found.err


def test_a_temperature_that_no_request_decides_is_found_by_verifying(here, teacher, capsys):
    with Likeness(teacher, scale=0.5).up() as address:
        assert wrote(capsys, address).code == 0
    said = command(capsys, "teacher", "verify", "cache", "--against", str(teacher))
    assert said.code == 1
    assert "or numbers at a temperature or after a filter" in " ".join(said.out.split())


def test_verify_needs_the_rows_unchanged(here, teacher, capsys):
    write = ("teacher", "cache", "config.yaml", "--teacher", str(teacher), "--teacher-cache", "c")
    assert command(capsys, *write).code == 0
    path, against = here / "c/rows.json", ("teacher", "verify", "c", "--against", str(teacher))
    whole = path.read_bytes()
    assert command(capsys, *against).code == 0
    path.write_bytes(whole.replace(b'"ids": "', b'"ids": "5 ', 1))
    said = command(capsys, *against)
    assert said.code == 2
    assert "c/rows.json is damaged" in said.err
    path.unlink()
    assert "holds no rows.json" in command(capsys, *against).err
    assert command(capsys, *write).code == 0
    assert path.read_bytes() == whole


@LAYOUTS
def test_a_cache_that_was_begun_goes_on_only_with_the_same_model(here, teacher, capsys, layout):
    shards, server = ("--cache-shard-tokens", "60", *layout), Likeness(teacher)
    with server.up() as address:
        assert wrote(capsys, address, *shards).code == 0
        whole = {path.name: path.read_bytes() for path in (here / "cache").glob("*.safetensors")}
        lost = [here / "cache" / name for name in ("shard-00001.safetensors", "manifest.json")]
        for path in lost:
            path.unlink()
        model_directory(here / "second", "qwen2", seed=9)
        server.load(here / "second")
        said = wrote(capsys, address, *shards)
        assert said.code == 2
        assert "was begun from another model of the same name" in said.err
        server.load(teacher)
        asked = server.asked
        assert wrote(capsys, address, *shards).code == 0
        assert server.asked - asked < 6  # the handshake, the check, and the shard that was lost
    assert {path.name: path.read_bytes() for path in (here / "cache").glob("*.safetensors")} == whole


def test_our_own_server_is_cached_from_too(here, capsys):
    """As the model is: weights, precision and entropy are known."""
    from teacher.serving import serving

    with serving(here / "teacher") as server:
        said = wrote(capsys, server.url, folder="served")
        assert said.code == 0, said.err
    said = command(capsys, "teacher", "cache", "config.yaml", "--teacher-cache", "loaded")
    assert said.code == 0
    served, loaded = (open_cache(here / name).manifest for name in ("served", "loaded"))
    assert served.parts == loaded.parts
    shutil.rmtree(here / "loaded")
