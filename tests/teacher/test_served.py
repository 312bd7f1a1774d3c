"""A teacher's server as a process of its own, asked by the client that a training uses."""

import multiprocessing
import pickle
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import tiny_models
import torch
import urllib3
from teacher.serving import answering, saved_teacher, serving
from torch.utils.data import DataLoader

from qtarget.servers import patience
from qtarget.teacher import (
    Document,
    Keep,
    KeptLogprobs,
    KeptSource,
    LiveModel,
    documents_of_rows,
    kept_logprobs,
    load_live_model,
)
from qtarget.teacher.served.client import open_teacher
from qtarget.teacher.served.server import open_server
from qtarget.teacher.served.transport import TeacherUnavailableError
from qtarget.teacher.served.wire import IDENTITY_HEADER, Limits, pack_answer, pack_question

CPU = torch.device("cpu")
SECRET = "a-secret-of-the-tests"
TOP = Keep(16)
ROWS = tiny_models.token_rows(12)
DOCUMENTS = list(documents_of_rows(ROWS))
SMALL = ("--batch-tokens", "64", "--top-k-limit", "8", "--waiting", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return saved_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def live(folder) -> LiveModel:
    return LiveModel(load_live_model(str(folder), "teacher", device=CPU), tiny_models.VOCAB)


@pytest.fixture(scope="module")
def url(folder):
    with serving(folder) as server:
        yield server.url


@pytest.fixture(scope="module")
def guarded(folder):
    """A server that takes little and wants a token."""
    with serving(folder, *SMALL, secret=SECRET) as server:
        yield server.url


@pytest.fixture
def knowing(monkeypatch):
    monkeypatch.setenv("QTARGET_TEACHER_TOKEN", SECRET)


def teacher_at(url: str, keep: Keep = TOP, patience: float = 300):
    return open_teacher(url, keep, tiny_models.tiny_tokenizer(), patience=patience)


def same(a: KeptLogprobs, b: KeptLogprobs) -> bool:
    return all(torch.equal(ours, theirs) for ours, theirs in zip(a, b, strict=True))


def batch_of(rows) -> dict[str, torch.Tensor]:
    width = max(len(row["input_ids"]) for row in rows)

    def padded(name, value):
        return torch.tensor([row[name] + [value] * (width - len(row[name])) for row in rows])

    return {"input_ids": padded("input_ids", 0), "labels": padded("labels", -100)}


# What is answered


@pytest.mark.parametrize("keep", [TOP, Keep(tiny_models.VOCAB), Keep(0), Keep(8, "sampled"), Keep(8, temperature=2.0)])
def test_a_served_teacher_answers_what_the_live_one_does(url, live, keep):
    assert same(teacher_at(url, keep).answer(DOCUMENTS), kept_logprobs(live, DOCUMENTS, keep))


def test_a_data_set_is_asked_in_pieces_and_put_together_in_order(guarded, knowing, live):
    rows = list(documents_of_rows(tiny_models.token_rows(64)))
    assert sum(len(document.ids) for document in rows) > 5 * 64
    found, whole = teacher_at(guarded, Keep(8)).answer(rows), kept_logprobs(live, rows, Keep(8))
    torch.testing.assert_close(found.label_logprobs, whole.label_logprobs)
    assert torch.equal(found.ids[:, 0], whole.ids[:, 0])


def test_nothing_asked_is_nothing_answered(url):
    assert teacher_at(url).answer([]).ids.shape == (0, 16)


def test_the_answer_is_there_ahead_of_the_step_and_no_thread_is_left_behind(url, live):
    source, batch = KeptSource(teacher_at(url)), batch_of(ROWS)
    source.unpack(source.read(batch), CPU)
    before = threading.active_count()
    reads = [source.read(batch) for _ in range(30)]
    assert all(isinstance(read, Future) for read in reads)
    found = [source.unpack(read, CPU) for read in reads]
    assert threading.active_count() <= before
    expected = kept_logprobs(live, DOCUMENTS, TOP)
    at = torch.nn.functional.pad(batch["labels"][:, 1:] != -100, (0, 1))
    torch.testing.assert_close(found[-1].logprobs[at], expected.logprobs)


def test_a_worker_asks_for_itself(url):
    source = KeptSource(teacher_at(url))
    here = source.unpack(source.read(batch_of(ROWS)), CPU)  # connections and threads are there before the fork
    loader = DataLoader(list(ROWS), 12, collate_fn=lambda rows: source.read(batch_of(rows)), num_workers=1)
    there = source.unpack(next(iter(loader)), CPU)
    assert torch.equal(here.logprobs, there.logprobs)


def test_a_forked_process_has_a_background_of_its_own(url):
    """The parent's threads are not in it, and waiting for them would never end."""
    source = KeptSource(teacher_at(url))
    source.unpack(source.read(batch_of(ROWS)), CPU)
    child = multiprocessing.get_context("fork").Process(target=_reads, args=(source,))
    child.start()
    child.join(300)
    code = child.exitcode
    child.kill()
    assert code == 0


def _reads(source: KeptSource) -> None:
    source.unpack(source.read(batch_of(ROWS)), CPU)


# Who may ask, and how much


def post(url: str, body: bytes = b"", path: str = "/answers", **headers: str) -> urllib3.BaseHTTPResponse:
    return urllib3.request("POST" if body else "GET", url + path, body=body or None, headers=headers, retries=False)


def test_without_the_token_only_health_is_told(guarded):
    wrong = {"Authorization": f"Bearer {SECRET}x"}
    body = pack_question(DOCUMENTS[:1], Keep(4))
    assert post(guarded, path="/health").json()["vocab"] == tiny_models.VOCAB
    assert [post(guarded, body).status, post(guarded, body, **wrong).status] == [401, 401]
    assert [post(guarded, path="/tokens").status, post(guarded, path="/tokens", **wrong).status] == [401, 401]
    assert post(guarded, body, Authorization=f"Bearer {SECRET}").status == 200
    with pytest.raises(ValueError, match=r"(?s)refuses \(401\).*set QTARGET_TEACHER_TOKEN"):
        teacher_at(guarded, Keep(4))


def test_an_address_that_others_reach_needs_a_token(monkeypatch):
    monkeypatch.delenv("QTARGET_TEACHER_TOKEN", raising=False)
    for host in ("0.0.0.0", "::", ""):
        with pytest.raises(ValueError, match="export QTARGET_TEACHER_TOKEN="):
            open_server("no-such-model", host, 0, "auto", Limits())


def test_an_address_that_is_taken_is_said_before_the_model_is_loaded(url):
    with pytest.raises(ValueError, match=r"cannot be served at .*--port"):
        open_server("no-such-model", "127.0.0.1", int(url.rpartition(":")[2]), "auto", Limits())


def test_a_model_without_its_tokenizer_is_not_served(tmp_path):
    tiny_models.tiny_model().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"tokenizer\.save_pretrained"):
        open_server(str(tmp_path), "127.0.0.1", 0, "auto", Limits())


def test_an_unknown_dtype_is_refused(folder):
    with pytest.raises(ValueError, match="'int3'; expected one of auto, float32"):
        open_server(str(folder), "127.0.0.1", 0, "int3", Limits())


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"nonsense", 400, "not safetensors"),
        (
            pack_question([Document.of([5, tiny_models.VOCAB], [-100, 5])], Keep(4)),
            400,
            "100 is outside the vocabulary",
        ),
        (pack_question(DOCUMENTS[:1], Keep(9)), 400, "9 tokens are to be kept, and this server keeps 8"),
        (
            pack_question([Document.of([5] * 65, [5] * 65)], Keep(4)),
            413,
            "65 tokens in one request; this server takes 64",
        ),
        (b"0" * 100_000, 413, "100000 bytes in one request; this server takes 64 tokens at once"),
    ],
)
def test_what_is_too_much_or_no_question_is_refused_with_the_reason(guarded, body, status, words):
    response = post(guarded, body, Authorization=f"Bearer {SECRET}")
    assert response.status == status
    assert words in response.data.decode()
    assert "Traceback" not in response.data.decode()


def test_a_stream_without_a_length_is_cut_off_at_the_limit(guarded):
    stream = iter([b"0" * 1000] * 50)
    headers = {"Authorization": f"Bearer {SECRET}"}
    response = urllib3.request("POST", f"{guarded}/answers", body=stream, headers=headers, retries=False)
    assert response.status == 413


def begun_question(url: str, size: int, secret: str = "") -> socket.socket:
    """A question that the server has begun to read, and that is yet to be sent."""
    asker = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
    lines = ["POST /answers HTTP/1.1", "Host: x", f"Content-Length: {size}", "Expect: 100-continue"]
    asker.sendall("\r\n".join([*lines, f"Authorization: {secret}", "\r\n"]).encode())
    assert asker.recv(100).startswith(b"HTTP/1.1 100 ")
    return asker


def test_requests_beyond_those_that_may_wait_are_sent_away_and_come_back(guarded, knowing, live):
    """Two places (one waits) are taken by questions that do not come; a third is sent away until one is given up."""
    teacher, secret = teacher_at(guarded, Keep(4)), f"Bearer {SECRET}"
    takers = [begun_question(guarded, 900, secret) for _ in range(2)]
    sent_away = post(guarded, pack_question(DOCUMENTS[:1], Keep(4)), Authorization=secret)
    assert (sent_away.status, sent_away.headers["Retry-After"]) == (503, "1")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(teacher.answer, DOCUMENTS[:1])
        takers[0].close()
        assert same(waiting.result(300), kept_logprobs(live, DOCUMENTS[:1], Keep(4)))
    takers[1].close()


def test_many_at_once_all_get_their_own_answer(guarded, knowing, live):
    teacher = teacher_at(guarded, Keep(4))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda document: teacher.answer([document]), DOCUMENTS))
    assert all(same(one, kept_logprobs(live, [d], Keep(4))) for one, d in zip(found, DOCUMENTS, strict=True))


# What is opened


def test_another_tokenizer_is_refused_with_the_first_ids_that_differ(url):
    permuted = tiny_models.tiny_tokenizer([tiny_models.WORDS[1], tiny_models.WORDS[0], *tiny_models.WORDS[2:]])
    with pytest.raises(ValueError, match=r"2 token ids differ, first 5: 'w1' and 'w0'"):
        open_teacher(url, TOP, permuted)


def test_more_than_the_server_keeps_is_refused_with_the_line(guarded, knowing):
    with pytest.raises(ValueError, match="--top-k-limit 9"):
        teacher_at(guarded, Keep(9))


def test_a_document_longer_than_the_server_takes_is_refused_with_the_line(guarded, knowing):
    with pytest.raises(ValueError, match=r"65 tokens, .*--batch-tokens 65"):
        teacher_at(guarded, Keep(4)).answer([Document.of([5] * 65, [5] * 65)])


def test_a_wrong_address_is_refused_with_the_line_and_no_password():
    with pytest.raises(ValueError, match=r"`teacher: https://host:1` and .* QTARGET_TEACHER_TOKEN") as caught:
        teacher_at("https://me:hunter2@host:1/x")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ValueError, match="http://host:0 is no address of a server; write it as in `teacher: http://"):
        teacher_at("http://host:0")


# Servers that are away


def test_nobody_there_is_said_with_the_line_to_write():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(
            TeacherUnavailableError, match=rf"{url} was away for 1 s and \d tries.*qtarget teacher serve"
        ):
            teacher_at(url, patience=1)


def test_a_teacher_that_goes_away_is_missed_in_the_step_in_its_own_words(url, caplog):
    source = KeptSource(replace(teacher_at(url), url="http://127.0.0.1:9", patience=2.5))
    for _ in range(2):  # an absence that was given up is none that is known
        caplog.clear()
        read = source.read(batch_of(ROWS))
        with pytest.raises(TeacherUnavailableError, match=r"http://127\.0\.0\.1:9 was away for 2\.5 s"):
            source.unpack(read, CPU)
        assert sum("is away" in message for message in caplog.messages) == 1


def test_a_process_of_its_own_asks_and_ends_without_waiting_for_a_teacher_that_is_away(url):
    here, away = (
        KeptSource(teacher_at(url)),
        KeptSource(replace(teacher_at(url), url="http://127.0.0.1:9", patience=3600)),
    )
    program = "\n".join(
        [
            f"import pickle; here, away, batch = pickle.loads({pickle.dumps((here, away, batch_of(ROWS)))!r})",
            "print(here.read(batch).result()['ids'].sum().item(), away.read(batch).done())",
        ]
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600)
    ids = here.read(batch_of(ROWS)).result()["ids"]
    assert (done.returncode, done.stdout) == (0, f"{ids.sum()} False\n"), done.stderr


def test_the_server_stops_when_told_and_answers_what_is_under_way(folder):
    with serving(folder) as server:
        body = pack_question(DOCUMENTS, TOP)
        asker = begun_question(server.url, len(body))
        server.process.send_signal(signal.SIGTERM)
        asker.sendall(body)
        assert asker.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"
        asker.close()
        assert server.process.wait(300) == 0


# Servers that answer nonsense


def around(url: str, change):
    """A server that passes on what another says, changed."""

    def answer(path: str, body: bytes):
        response = post(url, body, path)
        return change(
            path, response.status, {IDENTITY_HEADER: response.headers.get(IDENTITY_HEADER, "")}, response.data
        )

    return answering(answer)


def instead(at: str, status: int = 200, body: bytes = b"", **headers: str):
    def change(path, real_status, real_headers, real_body):
        return (status, real_headers | headers, body) if path == at else (real_status, real_headers, real_body)

    return change


def shifted(path, status, headers, body):
    """The answer to another question: every token's row is the row of the token before."""
    if path != "/answers":
        return status, headers, body
    rolled = {name: value.roll(1, 0) for name, value in safetensors.torch.load(body).items()}
    return status, headers, pack_answer(KeptLogprobs(**rolled))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (instead("/health", body=b"<html>"), "no teacher: its /health is not that of a teacher"),
        (instead("/health", 404, b"nothing\nhere"), r"refuses \(404\): nothing here"),
        (instead("/health", 302, Location="http://127.0.0.1:9/"), r"refuses \(302\)"),
        (instead("/health", body=b" " * (1 << 17)), "answers more than the 65536 bytes"),
        (instead("/answers", body=b"<html>"), "cannot be right: it is not safetensors"),
        (instead("/answers", body=b"0" * 100_000), "answers more than"),
        (instead("/answers", 500, b"broken"), r"refuses \(500\): broken"),
        (instead("/answers", **{IDENTITY_HEADER: "another"}), "is another than at the start"),
        (shifted, "cannot be right: a label is not among the kept ids"),
    ],
)
def test_nonsense_is_refused_at_once_and_the_address_named(url, change, words):
    with around(url, change) as strange, pytest.raises(ValueError, match=rf"at {strange} .*{words}"):
        teacher_at(strange, Keep(4)).answer(DOCUMENTS)


def test_what_is_no_map_of_tokens_is_refused(url):
    permuted = tiny_models.tiny_tokenizer(tiny_models.WORDS[::-1])
    with around(url, instead("/tokens", body=b"[1]")) as strange, pytest.raises(ValueError, match="is no map"):
        open_teacher(strange, TOP, permuted)


def test_a_pause_that_a_server_wants_is_never_longer_than_patience(url):
    busy = instead("/health", 503, b"busy", **{"Retry-After": "99999999"})
    with around(url, busy) as strange, pytest.raises(TeacherUnavailableError, match="503: busy"):
        teacher_at(strange, patience=1)


def test_an_answer_is_asked_for_as_often_as_it_takes(url, monkeypatch):
    """Away in three ways, then there."""
    monkeypatch.setattr(patience, "BACKOFF", patience.BACKOFF.new(backoff_factor=0.01, backoff_jitter=0))
    left = [502, 503, 504]

    def change(path, status, headers, body):
        return (left.pop(), {}, b"") if path == "/answers" and left else (status, headers, body)

    with around(url, change) as strange:
        assert same(teacher_at(strange).answer(DOCUMENTS), teacher_at(url).answer(DOCUMENTS))
    assert not left
