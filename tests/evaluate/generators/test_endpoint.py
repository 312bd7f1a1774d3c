"""Answers over HTTP: those of the same model in memory, from a real server that may be killed; and servers that lie."""

import json
import threading
from dataclasses import replace

import pytest
from evaluate.generators.cases import STUDENT, WORLD, asked, requests
from evaluate.generators.serving import KEY, NAME, VERSION, serving
from evaluate.generators.test_huggingface import texts
from teacher.serving import answering

from qtarget import lab
from qtarget.evaluate.generators.endpoint import KEY_VARIABLE, Endpoint
from qtarget.evaluate.generators.huggingface import HuggingFace
from qtarget.servers import patience

ONE = asked(5)


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    monkeypatch.setattr(patience, "BACKOFF", patience.BACKOFF.new(backoff_factor=0.01, backoff_jitter=0))


@pytest.fixture(scope="module")
def server():
    with serving(STUDENT) as server:
        yield server


@pytest.fixture(scope="module")
def in_memory():
    return without_ids(texts(HuggingFace(str(STUDENT), device="cpu"), ONE))


def without_ids(found):
    return {key: answer[:3] for key, answer in found.items()}


def endpoint(url, **changes):
    return Endpoint(str(STUDENT), url, **{"batch_size": 4, "patience": 600.0, **changes})


def test_a_server_answers_as_the_model_in_memory_does(server, in_memory):
    assert without_ids(texts(endpoint(server.url + "/v1/"), ONE)) == in_memory


def test_the_fingerprint_has_the_servers_name_and_version_and_neither_address_nor_key(server):
    found = endpoint(server.url).fingerprint()
    assert (found["model"]["served"], found["generation"]["version"]) == (NAME, VERSION)
    assert str(server.port) not in json.dumps(found)
    assert KEY not in json.dumps(found) + repr(endpoint(server.url))


def test_a_server_killed_and_started_again_in_mid_run_changes_nothing(in_memory):
    with serving(STUDENT) as server:
        found, waiting = {}, threading.Timer(0.3, server.start, [False])
        for answer in endpoint(server.url).generate(requests(ONE), ONE.ask):
            found[answer.request.qid, answer.request.sample] = (answer.text, answer.finish, answer.tokens)
            if len(found) == 5:
                server.kill()
                assert server.process.exitcode == -9
                waiting.start()
        waiting.join()
    assert found == in_memory


def test_a_server_that_stays_away_is_an_error_that_says_how_to_go_on():
    many = asked(5, k=100)  # more than are answered before the server is killed
    with serving(STUDENT) as server:
        answers = endpoint(server.url, patience=0.3).generate(requests(many), many.ask)
        next(answers)
        server.kill()
        with pytest.raises(ValueError, match=r"was away for 0.3 s .* the same command goes on"):
            list(answers)


def test_a_wrong_address_is_an_error(server):
    with pytest.raises(ValueError, match=r"was away for 0.2 s.*correct --url"):
        endpoint("http://127.0.0.1:9", patience=0.2).fingerprint()
    for url in ("127.0.0.1:8000", "ftp://host", "http://host?x=1", "http://[::1"):
        with pytest.raises(ValueError, match="is no address of a server; write it as in --url http://"):
            endpoint(url)
    with pytest.raises(ValueError, match=f"--url http://host and put the secret into {KEY_VARIABLE}") as refused:
        endpoint("http://me:hunter2@host")
    assert "hunter2" not in str(refused.value)


def test_a_wrong_key_is_an_error_that_does_not_say_it(server, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, "sk-wrong")
    with pytest.raises(ValueError, match=rf"refuses \(401\).*{KEY_VARIABLE}") as refused:
        texts(endpoint(server.url), ONE)
    assert "sk-wrong" not in str(refused.value)


def test_a_model_that_is_not_served_is_an_error():
    listed = json.dumps({"data": [{"id": "one"}, {"id": "two"}]}).encode()
    with (
        answering(lambda path, body: (200, {}, listed)) as url,
        pytest.raises(ValueError, match="it serves: 'one', 'two'"),
    ):
        endpoint(url).fingerprint()


def test_one_of_several_models_is_named_behind_the_address_as_a_teachers_is():
    listed = json.dumps({"data": [{"id": "base"}, {"id": "an/adapter"}]}).encode()
    with answering(lambda path, body: (200, {}, listed)) as url:
        for address in (f"{url}#an/adapter", f"vllm+{url}/v1#an/adapter"):
            assert endpoint(address).fingerprint()["model"]["served"] == "an/adapter"
        with pytest.raises(ValueError, match=rf"does not serve 'other'; .*: --url {url}#base"):
            endpoint(f"{url}#other").fingerprint()
        with pytest.raises(ValueError, match=r"Name one of these: --judge-model base\."):
            endpoint(url, option="--judge-url").fingerprint()


GOOD = {"choices": [{"text": "answer 4", "finish_reason": "stop"}], "usage": {"completion_tokens": 3}}


@pytest.mark.parametrize(
    "garbage",
    [
        b"<html>welcome</html>",
        b"[]",
        b"{}",
        json.dumps({**GOOD, "choices": []}).encode(),
        json.dumps({**GOOD, "choices": GOOD["choices"] * 2}).encode(),
        json.dumps({"choices": [{"text": None, "finish_reason": "stop"}], "usage": {"completion_tokens": 3}}).encode(),
        json.dumps({"choices": [{"text": "a", "finish_reason": "tool"}], "usage": {"completion_tokens": 3}}).encode(),
        json.dumps({**GOOD, "usage": {}}).encode(),
        b"\xff\xfe\x00",
    ],
)
def test_a_server_that_answers_garbage_is_an_error(garbage):
    def answer(path, body):
        return (200, {}, garbage) if path == "/v1/completions" else (404, {}, b"")

    with answering(answer) as url, pytest.raises(ValueError, match=r"/v1/completions (does not answer|answers with)"):
        texts(endpoint(url), ONE)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again_with_the_same_question(status):
    asked_for = []

    def answer(path, body):
        if path != "/v1/completions":
            return 404, {}, b""
        asked_for.append(body)
        return (status, {}, KEY.encode()) if len(asked_for) % 2 else (200, {}, json.dumps(GOOD).encode())

    one = asked(2, k=1)
    with answering(answer) as url:
        assert len(texts(endpoint(url, batch_size=1), one)) == 2
    assert asked_for[0] == asked_for[1] != asked_for[2] == asked_for[3]
    assert json.loads(asked_for[0])["seed"] == requests(one)[0].seed
    with (
        answering(lambda path, body: (503, {}, KEY.encode())) as url,
        pytest.raises(ValueError, match="secret") as error,
    ):
        endpoint(url, patience=0.1).fingerprint()
    assert KEY not in str(error.value)


def test_a_refusal_is_not_repeated():
    times = []

    def answer(path, body):
        times.append(path)
        return 400, {}, b"prompt too long"

    with answering(answer) as url, pytest.raises(ValueError, match=r"refuses \(400\): prompt too long"):
        endpoint(url).fingerprint()
    assert len(times) == 1
    with pytest.raises(ValueError, match="--batch-size 1"):
        replace(endpoint("http://host"), batch_size=0)


def test_a_server_is_told_the_end_token_of_the_models_tokenizer(tmp_path):
    """It may serve an adapter on a base that ends otherwise, or have no generation_config.json beside the weights."""
    tokenizer = lab.tokenizer(WORLD)
    tokenizer.eos_token = tokenizer.pad_token
    tokenizer.save_pretrained(tmp_path)
    bodies = []

    def answer(path, body):
        bodies.append(body)
        return (200, {}, json.dumps(GOOD).encode()) if path == "/v1/completions" else (404, {}, b"")

    with answering(answer) as url:
        texts(replace(endpoint(url), model=str(tmp_path)), asked(1, k=1))
    assert json.loads(bodies[-1])["stop_token_ids"] == [tokenizer.pad_token_id]
