"""A teacher behind vLLM or SGLang: the evidence of the model itself, and what is found before the first row."""

import json
import math
import threading
import time
from dataclasses import replace

import pytest
import tiny_models
import torch
from teacher.engine_servers import Likeness
from teacher.serving import answering, saved_teacher

from qtarget.servers import patience
from qtarget.teacher import Document, Keep, KeptLogprobs, LiveModel, documents_of_rows, kept_logprobs, load_live_model
from qtarget.teacher.background import at_once
from qtarget.teacher.engines import engine_teacher
from qtarget.teacher.engines.engine_server import IN_FLIGHT
from qtarget.teacher.served import transport
from qtarget.teacher.served.transport import TeacherUnavailableError
from qtarget.teacher.served_store import ServedStore, open_store

VOCAB = tiny_models.VOCAB
DOCUMENTS = list(documents_of_rows(tiny_models.token_rows(12)))
KINDS = ("vllm", "sglang")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def live(folder) -> LiveModel:
    return LiveModel(load_live_model(str(folder), "teacher", device=torch.device("cpu")), VOCAB)


def opened(address: str, keep: Keep | None = None, tokenizer=None, wait: float = 300) -> ServedStore:
    return open_store(address, keep or Keep(16), tokenizer or tiny_models.tiny_tokenizer(), patience=wait)


def assert_near(found: KeptLogprobs, expected: KeptLogprobs) -> None:
    """Equal up to rounding; the entropy is not above the model's."""
    assert torch.equal(found.ids, expected.ids)
    for name in ("logprobs", "log_tail", "label_logprobs"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=2e-5, rtol=1e-5)
    assert (found.entropy <= expected.entropy + 1e-4).all()


# What is answered


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [0, 1, 16, VOCAB])
def test_an_engine_says_what_the_model_says(folder, live, kind, k):
    with Likeness(folder, kind, cap=VOCAB).up() as address:
        store = opened(address, Keep(k))
        found, expected = store.answer(DOCUMENTS), kept_logprobs(live, DOCUMENTS, Keep(k))
    assert_near(found, expected)
    assert store.has_entropy == (k == VOCAB)
    if store.has_entropy:
        torch.testing.assert_close(found.entropy, expected.entropy, atol=1e-4, rtol=1e-5)


def test_at_a_temperature_every_token_is_needed(folder, live):
    keep = Keep(VOCAB, temperature=2.0)
    with Likeness(folder, cap=VOCAB).up() as address:
        assert_near(opened(address, keep).answer(DOCUMENTS), kept_logprobs(live, DOCUMENTS, keep))
        with pytest.raises(ValueError, match=rf"at temperature 2, and vLLM gives 16 .*`teacher_top_k: {VOCAB}`"):
            opened(address, Keep(16, temperature=2.0))
        with pytest.raises(ValueError, match="`cache_sampled: true` keeps draws"):
            opened(address, Keep(16, "sampled"))


def test_rows_that_stand_for_no_token_get_no_mass_and_leave_no_gap(tmp_path):
    """As of Qwen2.5: rows of the output layer beyond the tokenizer's tokens, some of them among the likeliest."""
    model = tiny_models.tiny_model(seed=1, width=48, vocab=VOCAB + 20)
    model.save_pretrained(tmp_path)
    tiny_models.tiny_tokenizer().save_pretrained(tmp_path)
    live = LiveModel(load_live_model(str(tmp_path), "teacher", device=torch.device("cpu")), VOCAB)
    with Likeness(tmp_path, cap=VOCAB + 20).up() as address:
        found, expected = opened(address, Keep(16)).answer(DOCUMENTS), kept_logprobs(live, DOCUMENTS, Keep(16))
    mass = torch.cat([found.logprobs, found.log_tail[:, None]], 1).logsumexp(1)
    torch.testing.assert_close(mass, torch.zeros_like(mass), atol=1e-5, rtol=0)
    # What part of the rows' mass is not among the likeliest is not known.
    torch.testing.assert_close(found.label_logprobs, expected.label_logprobs, atol=0.2, rtol=0)
    assert (found.ids < VOCAB).all()


def test_a_data_set_is_asked_in_pieces_at_once_and_put_together_in_order(folder, live, monkeypatch):
    monkeypatch.setattr(engine_teacher, "PART_TOKENS", 24)
    documents = list(documents_of_rows(tiny_models.token_rows(200)))
    server, told, both = Likeness(folder), [], threading.Barrier(2)
    with server.up() as address:
        store, first = opened(address), iter(range(2))
        server.change = lambda path, _, answer: (next(first, None) is not None and both.wait(300), answer)[1]
        found = store.answer(documents, told.append)
    assert_near(found, kept_logprobs(live, documents, Keep(16)))
    assert 1 < server.most <= IN_FLIGHT
    assert sum(told) == sum(int(each.asked.sum()) for each in documents)


def test_work_at_once_keeps_its_order_and_ends_at_the_first_error():
    assert at_once(lambda n: n * n, range(40), 4) == [n * n for n in range(40)]
    begun, over, before = [], threading.Event(), set(threading.enumerate())

    def work(number):
        begun.append(number)
        if number == 3:
            raise ValueError("the third")
        assert over.wait(300)

    with pytest.raises(ValueError, match="the third"):
        at_once(work, range(1000), 4)
    over.set()
    threads = set(threading.enumerate()) - before
    assert all(thread.daemon for thread in threads)
    for thread in threads:
        thread.join(300)
        assert not thread.is_alive()
    assert {3} <= set(begun) <= {0, 1, 2, 3}


# What is found before the first row


def each_place(change):
    """vLLM's answer with every place of every prompt changed; gets what stands there and the number of the place."""

    def changed(path, question, answer):
        if path == "/v1/completions":
            for choice in answer["choices"]:
                places = enumerate(choice["prompt_logprobs"])
                choice["prompt_logprobs"] = [place and change(place, number) for number, place in places]
        return answer

    return changed


def shifted(by: int):
    def changed(path, question, answer):
        for choice in answer["choices"] if path == "/v1/completions" else ():
            places, choice["prompt_token_ids"] = choice["prompt_logprobs"], None
            own = places[1:]
            choice["prompt_logprobs"] = [None, *(own[-by:] + own[:-by])]
        return answer

    return changed


def without(*names):
    def changed(path, question, answer):
        for choice in answer["choices"] if path == "/v1/completions" else ():
            for name in names:
                del choice[name]
        return answer

    return changed


def with_number(value, at: int = 3):
    def change(place, number):
        token = next(iter(place))
        return {**place, token: {**place[token], "logprob": value}} if number == at else place

    return each_place(change)


def with_index(value):
    def changed(path, question, answer):
        if path == "/v1/completions":
            answer["choices"][0]["index"] = value
        return answer

    return changed


def with_text(value):
    return each_place(lambda place, number: {token: {**each, "decoded_token": value} for token, each in place.items()})


def with_triple(change):
    """SGLang's answer with the triple of each prompt's fourth token changed."""

    def changed(path, question, answer):
        for each in answer if path == "/generate" else ():
            own = each["meta_info"]["input_token_logprobs"]
            own[3] = change(own[3])
        return answer

    return changed


def cut_short(path, question, answer):
    return json.dumps(answer).encode()[:-200] if path == "/v1/completions" else answer


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"leading": (2,)}, r"puts 1 token\(s\) before what it is sent, first 2"),
        ({"leading": (2,), "change": without("prompt_token_ids")}, "speaks of 17 tokens where it was sent 16"),
        ({"change": shifted(1)}, r"stands 1 place\(s\) later"),
        ({"change": shifted(-1)}, r"stands 1 place\(s\) earlier"),
        ({"gives_logits": True}, "more than 1: these are logits"),
        ({"heeds_temperature": True}, "asked to sample at temperature 0.5 it gives other log-probabilities"),
        ({"change": with_number(-9999.0)}, "is −inf, as if tokens had been struck out"),
        ({"change": with_number(-math.inf)}, "is −inf"),
        ({"change": with_number(math.nan)}, "is NaN"),
        ({"change": with_number(None)}, "None stands where a log-probability should"),
        ({"change": with_number("-1")}, "'-1' stands where a log-probability should"),
        ({"change": with_number(10**400)}, "10+ stands where a log-probability should"),
        ({"change": with_index(None)}, "None stands where"),
        ({"change": with_index("x")}, "'x' stands where"),
        ({"change": with_text(5)}, "5 stands where a token's text should"),
        ({"change": with_text(["a"])}, "'a'. stands where a token's text should"),
        ({"change": each_place(lambda place, number: {"-1": {"logprob": -1.0}, **place})}, "'-1' stands where a token"),
        ({"change": each_place(lambda place, number: {"9" * 99: {"logprob": -1.0}, **place})}, "stands where a token"),
        ({"change": each_place(lambda place, number: dict(list(place.items())[:4]))}, "4 tokens are given where 16"),
        ({"change": each_place(lambda place, number: [1])}, r"are not \{token id"),
        ({"change": without("prompt_logprobs")}, "holds no `prompt_logprobs`"),
        ({"change": cut_short}, "it is no JSON"),
        ({"change": lambda path, q, a: b"<html>" if q else a}, "it is no JSON"),
        ({"change": lambda path, q, a: b"<html>"}, "cannot be asked as vLLM: its /v1/models is no JSON"),
        ({"change": lambda path, q, a: {"choices": []} if q else a}, "speaks of 0 prompts where 2 were sent"),
        ({"kind": "sglang"}, "cannot be asked as vLLM: its /v1/models lists no models"),
    ],
)
def test_what_would_spoil_a_training_is_found_and_the_whole_line_said(folder, changes, words):
    with Likeness(folder, **changes).up() as address, pytest.raises(ValueError, match=rf"(?s){words}") as caught:
        opened(address.replace("sglang+", "vllm+"))
    assert "vllm serve " in str(caught.value)
    assert "--logprobs-mode raw_logprobs" in str(caught.value)


def test_a_shift_is_found_where_every_token_is_kept(folder):
    with (
        Likeness(folder, cap=VOCAB, change=shifted(1)).up() as address,
        pytest.raises(ValueError, match=r"stands 1 place\(s\) later"),
    ):
        opened(address, Keep(VOCAB))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"leading": (2,)}, r"puts 1 token\(s\) before"),
        ({"gives_logits": True}, "these are logits"),
        ({"heeds_temperature": True}, "asked to sample at temperature 0.5"),
        (
            {"change": lambda path, q, a: [{"text": "x", "meta_info": {}}] if q else a},
            "holds no `input_token_logprobs`",
        ),
        ({"change": with_triple(lambda triple: {"logprob": -1})}, r"are not \[log-probability, token id, text\]"),
        ({"change": with_triple(lambda triple: [triple[0], 10**400, "x"])}, "stands where a token's id should"),
        ({"change": with_triple(lambda triple: [triple[0], triple[1] + 0.5, "x"])}, "stands where a token's id should"),
        ({"change": with_triple(lambda triple: [triple[0], True, "x"])}, "True stands where a token's id should"),
        ({"change": with_triple(lambda triple: [triple[0], triple[1], 5])}, "5 stands where a token's text should"),
        ({"change": with_triple(lambda triple: [10**400, *triple[1:]])}, "stands where a log-probability should"),
        ({"kind": "vllm"}, "its /get_model_info names no `model_path`"),
    ],
)
def test_the_same_is_found_of_sglang(folder, changes, words):
    with (
        Likeness(folder, **{"kind": "sglang", **changes}).up() as address,
        pytest.raises(ValueError, match=words) as caught,
    ):
        opened(address.replace("vllm+", "sglang+"))
    assert "python -m sglang.launch_server --model-path" in str(caught.value)


def test_a_cap_below_k_is_refused_with_the_whole_line(folder):
    with Likeness(folder, cap=20).up() as address:
        port = address.rpartition(":")[2]
        line = f"vllm serve {folder} --port {port} --max-logprobs 64 --logprobs-mode raw_logprobs"
        with pytest.raises(ValueError, match=f"64 tokens are to be kept .*max allowed: 20.*{line}"):
            opened(address, Keep(64))
        assert opened(address, Keep(20)).keep.k == 20


def test_another_tokenizer_is_refused_by_its_map_or_by_what_its_tokens_are(folder, tmp_path):
    words = [tiny_models.WORDS[1], tiny_models.WORDS[0], *tiny_models.WORDS[2:]]
    with (
        Likeness(folder).up() as address,
        pytest.raises(ValueError, match="2 token ids differ, first 5: 'w1' and 'w0'"),
    ):
        opened(address, tokenizer=tiny_models.tiny_tokenizer(words))

    def elsewhere(path, question, answer):
        if path == "/v1/models":
            answer["data"][0]["root"] = "/models/on/another/machine"
        return answer

    with Likeness(folder, change=elsewhere).up() as address:
        assert opened(address).vocab == VOCAB
        with pytest.raises(
            ValueError, match=r"has another tokenizer than the student: of \d+ tokens \d+ are other texts"
        ):
            opened(address, tokenizer=tiny_models.tiny_tokenizer(tiny_models.WORDS[::-1]))


def test_a_document_longer_than_the_server_takes_is_refused_with_the_line(folder):
    with Likeness(folder, longest=40).up() as address:
        store = opened(address)
        assert len(store.answer([Document.of([5] * 39, [5] * 39)]).ids) == 38
        with pytest.raises(
            ValueError, match=r"40 tokens, .* takes 39 at once; .*--max-model-len 41 .*`max_length: 39`"
        ):
            store.answer([Document.of([5] * 40, [5] * 40)])


def test_one_of_several_models_is_named_behind_the_address(folder):
    def several(path, question, answer):
        if path == "/v1/models":
            answer["data"].append({**answer["data"][0], "id": "second"})
        return answer

    with Likeness(folder, change=several, named="first").up() as address:
        with pytest.raises(ValueError, match="it serves first, second: say which, behind a # at the end"):
            opened(address)
        assert opened(f"{address}#first").vocab == VOCAB


def with_models(*more, **changes):
    """vLLM's list of models with some changed, and more of them."""

    def changed(path, question, answer):
        if path == "/v1/models":
            answer["data"] = [{**answer["data"][0], **changes}, *more]
        return answer

    return changed


def test_an_adapter_is_named_behind_the_address(folder, live):
    """vLLM lists it beside its base, and says of the base alone how many tokens it takes and where it came from."""
    adapter = {"id": "mine", "root": "/adapters/mine", "parent": "base", "max_model_len": None}
    with Likeness(folder, change=with_models(adapter, id="base"), named="mine").up() as address:
        store = opened(f"{address}#mine")
        assert_near(store.answer(DOCUMENTS), kept_logprobs(live, DOCUMENTS, Keep(16)))
        assert store.weights == "/adapters/mine, served by vLLM"
        line = f"vllm serve {folder} --enable-lora --lora-modules mine=/adapters/mine --port "
        with pytest.raises(ValueError, match=f"takes 255 at once; start it with: {line}.*--max-model-len 301"):
            store.answer([Document.of([5] * 300, [5] * 300)])
    with Likeness(folder, change=with_models(adapter, id="base"), named="base").up() as address:
        assert opened(address).weights == f"{folder}, served by vLLM"


@pytest.mark.parametrize("length", [None, True, 1, 0, -1, "256"])
def test_a_length_that_is_none_is_refused(folder, length):
    with (
        Likeness(folder, change=with_models(max_model_len=length)).up() as address,
        pytest.raises(ValueError, match="its /v1/models does not say `max_model_len`"),
    ):
        opened(address)


def test_a_name_that_is_not_served_is_refused_with_those_that_are(folder):
    with (
        Likeness(folder, named="first", change=with_models({"id": "mine", "parent": "first"})).up() as address,
        pytest.raises(ValueError, match="it serves first, mine, and not other: write one of these behind the #"),
    ):
        opened(f"{address}#other")


@pytest.mark.parametrize("end", ["/", "/v1", "/v1/"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_address_may_end_as_openais_clients_write_it(folder, kind, end):
    with Likeness(folder, kind).up() as address:
        assert opened(address + end).url == address


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_wants_a_key_says_where_it_belongs(kind):
    """Before anything else is known of it."""
    with (
        answering(lambda path, body: (401, {}, b'{"error":"Unauthorized"}')) as url,
        pytest.raises(ValueError, match=r"refuses \(401\).*Put its key into QTARGET_TEACHER_TOKEN"),
    ):
        opened(f"{kind}+{url}")


def test_an_address_that_cannot_be_asked_is_no_matter_of_how_the_server_was_started(folder):
    with Likeness(folder).up() as address, pytest.raises(ValueError, match="Correct the address") as caught:
        opened(address.replace("http:", "https:"))
    assert "vllm serve" not in str(caught.value)
    with pytest.raises(
        ValueError, match=r"http://\[::1 is no address of a server; write it as in `teacher: vllm\+http"
    ):
        opened("vllm+http://[::1")


# Servers that go away, change or fail


def test_a_server_that_is_away_is_waited_for(folder, live, monkeypatch):
    monkeypatch.setattr(patience, "BACKOFF", patience.BACKOFF.new(backoff_factor=0.01, backoff_jitter=0))
    server = Likeness(folder)
    with server.up() as address:
        store = opened(address)
        server.statuses[:] = [503, 502, 504]
        assert_near(store.answer(DOCUMENTS), kept_logprobs(live, DOCUMENTS, Keep(16)))
        server.statuses[:] = [500]
        with pytest.raises(ValueError, match=r"refuses \(500\): not now"):  # it says that it is well
            store.answer(DOCUMENTS)
        server.statuses[:] = [401]
        with pytest.raises(ValueError, match=r"refuses \(401\).*QTARGET_TEACHER_TOKEN"):
            store.answer(DOCUMENTS)


def test_a_server_that_fails_and_is_not_well_is_waited_for_too(folder, live, monkeypatch):
    """vLLM answers 500 when its engine has died, and ends soon after."""
    monkeypatch.setattr(patience, "BACKOFF", patience.BACKOFF.new(backoff_factor=0.01, backoff_jitter=0))
    server, left = Likeness(folder), [503, 503]

    def around(path, body):
        if ready and left and path == "/health":
            return left.pop(), {}, b"dead"
        if ready and left:
            return 500, {}, b"EngineCore died"
        return server._answer(path, body)

    ready = []
    with answering(around) as url:
        store = opened(f"vllm+{url}")
        ready.append(True)
        assert_near(store.answer(DOCUMENTS), kept_logprobs(live, DOCUMENTS, Keep(16)))
    assert not left


def test_a_server_that_grows_slow_is_given_time(folder, live, monkeypatch):
    """All that is asked at once takes longer than one answer may: asked again and again it would never be done."""
    monkeypatch.setattr(engine_teacher, "PART_TOKENS", 30)
    monkeypatch.setattr(transport, "_READ_S", 0.4)
    server, one_at_a_time, pause = Likeness(folder), threading.Lock(), [0.0]

    def slowly(path, body):
        with one_at_a_time:
            time.sleep(pause[0] if body else 0)
        return server._answer(path, body)

    with answering(slowly) as url:
        store = opened(f"vllm+{url}")
        pause[0] = 0.15
        assert_near(store.answer(DOCUMENTS), kept_logprobs(live, DOCUMENTS, Keep(16)))
        pause[0] = 3.0
        hurried = opened_again(store, patience=0.5)
        with pytest.raises(TeacherUnavailableError, match=r"is there and gives no answer within .*teacher_timeout: 1`"):
            hurried.answer(DOCUMENTS[:1])


def opened_again(store, patience: float):
    """The same with another patience: a handshake would be slow too."""
    return replace(store, server=replace(store.server, patience=patience))


def test_nobody_there_is_said_with_the_line_to_start_one():
    with pytest.raises(TeacherUnavailableError, match=r"was away for 1 s .*`vllm serve MODEL --port 19 --max-logprobs"):
        opened("vllm+http://127.0.0.1:19", wait=1)


def test_another_model_behind_the_address_is_refused(folder, tmp_path):
    """Of the same name: only what it says can tell."""
    server = Likeness(folder)
    with server.up() as address:
        store = opened(address)
        store.answer(DOCUMENTS)
        tiny_models.tiny_model(seed=2, width=48).save_pretrained(tmp_path)
        tiny_models.tiny_tokenizer().save_pretrained(tmp_path)
        server.load(tmp_path)
        with pytest.raises(
            ValueError, match=r"nats from the one at the start in the mean, so another model is there now"
        ):
            store.answer(DOCUMENTS)
        server.load(folder)
        server.named = "renamed"
        with pytest.raises(ValueError, match=r"another than at the start: it has no .* any more"):
            store.answer(DOCUMENTS)


def test_a_wrong_address_is_refused_with_the_line_and_no_password():
    with pytest.raises(ValueError, match=r"`teacher: vllm\+https://host:1` and .* QTARGET_TEACHER_TOKEN") as caught:
        opened("vllm+https://me:hunter2@host:1/x")
    assert "hunter2" not in str(caught.value)
