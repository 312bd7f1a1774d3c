"""One request: addresses, sizes, secrets and refusals, whichever client asks."""

import pytest
from teacher.serving import answering

from qtarget.servers.http import HttpServer, checked_url, in_one_line
from qtarget.servers.patience import RETRY_AFTER_S, Away

SECRET, VARIABLE = "sk-of-the-test", "QTARGET_SECRET_OF_THE_TEST"


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    monkeypatch.setenv(VARIABLE, SECRET)


def server_at(url: str) -> HttpServer:
    return HttpServer(url, f"The server at {url}", VARIABLE, (503,), 60.0, 60.0)


def request(url: str, body: bytes | None = None, limit: int = 100):
    return server_at(url).request("/x", body, content_type="text/plain", limit=limit)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host",
        "http://",
        "http://host?token=1",
        "http://host#x",
        "http://host:0",
        "http://host:99999",
        "http://host:x",
        "http:/host",
        "host:1",
    ],
)
def test_what_is_no_address_is_refused_with_the_line_to_write(url):
    with pytest.raises(ValueError, match="is no address of a server; write it as in --url http://"):
        checked_url(url, "--url {}", VARIABLE)


@pytest.mark.parametrize("url", ["https://me:hunter2@host:1/x", "me:hunter2@host:1", "http:/me:hunter2@host:1"])
def test_an_address_with_a_password_is_refused_and_the_password_not_repeated(url):
    with pytest.raises(ValueError, match=rf"write --url https?://host:1 and put the secret into {VARIABLE}") as caught:
        checked_url(url, "--url {}", VARIABLE)
    assert "hunter2" not in str(caught.value)


def test_a_path_before_a_proxy_is_kept():
    assert checked_url("https://host:80/teacher/@me/", "{}", VARIABLE) == "https://host:80/teacher/@me"


def test_an_answer_comes_with_its_headers_and_the_secret_is_sent():
    with answering(lambda path, body: (200, {"X-Name": "n"}, path.encode() + body)) as url:
        reply = request(url, b"?")
    assert (reply.status, reply.body, reply.headers["x-name"]) == (200, b"/x?", "n")


def test_an_answer_may_have_the_limit_and_no_byte_more():
    with answering(lambda path, body: (200, {}, b"0" * 100)) as url:
        assert len(request(url, limit=100).body) == 100
        with pytest.raises(ValueError, match=rf"The server at {url} answers more than the 99 bytes"):
            request(url, limit=99)


def test_of_a_refusal_the_beginning_is_read_in_one_line_and_without_the_secret():
    long = ("no " * 10_000).encode()
    with answering(lambda path, body: (400, {}, SECRET.encode() + b"\n is wrong: " + long)) as url:
        reply = request(url)
    assert reply.text.startswith("[secret] is wrong: no no")
    assert len(reply.text) == 501
    assert len(reply.body) < 5000


def test_a_status_that_may_change_is_an_absence_with_the_pause_asked_for():
    for value, pause in (("7", 7), ("99999999", RETRY_AFTER_S), ("soon", 0)):
        with (
            answering(lambda path, body, value=value: (503, {"Retry-After": value}, SECRET.encode())) as url,
            pytest.raises(Away, match=r"503: \[secret\]") as away,
        ):
            request(url)
        assert away.value.pause == pause


def test_nobody_there_and_an_answer_that_stops_are_absences():
    with pytest.raises(Away):
        request("http://127.0.0.1:9")
    with (
        answering(lambda path, body: (200, {"Content-Length": "50"}, b"half")) as url,
        pytest.raises(Away, match="broke off 46 bytes before its end"),
    ):
        request(url)


def test_a_redirect_is_not_followed():
    with answering(lambda path, body: (302, {"Location": "http://127.0.0.1:9/"}, b"")) as url:
        assert request(url).status == 302


@pytest.mark.parametrize("value", ["a b", "é", "a\x01b"])
def test_a_secret_that_no_header_carries_is_refused_and_not_repeated(monkeypatch, value):
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(ValueError, match=f"{VARIABLE} holds characters") as refused:
        request("http://127.0.0.1:9")
    assert value not in str(refused.value)


def test_a_text_is_cut_to_one_line():
    assert in_one_line(" a\n  b ") == "a b"
    assert in_one_line("") == "nothing"
