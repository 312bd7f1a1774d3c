"""What is struck out of addresses: secrets in all their forms, nothing harmless, and in time linear in the text."""

import time

import pytest

from qtarget.servers.address_secrets import refuse_secret, without_secrets

UNITS = (
    "a", "x://a:b", "://", "=", "&", "?", ":", "/", "@", "a_", "?a-", "&a=", "?token=", "?key=", "%3A%2F%2F", "%3D",
    "x://me:w@h ", "x://a:b ", '"x://', "=x://", "aB", "x:/", ",", "x://\\", ":\\/", "@ ",
    "//", "//me:w@h ", " //a:b", "/token=", "%2Ftoken=", "x://me:80/a1",
)  # fmt: skip


def seconds(text: str) -> float:
    """The least of three measurements of processor time."""
    measured = []
    for _ in range(3):
        began = time.process_time()
        without_secrets(text)
        measured.append(time.process_time() - began)
    return min(measured)


def test_time_is_linear_in_the_text():
    for before in ("", "x://a:b?"):
        for unit in UNITS:
            short = before + unit * (1_000 // len(unit))
            long = before + unit * (8_000 // len(unit))
            assert seconds(long) < 24 * seconds(short) + 1e-3, (before, unit)  # 8 is linear, 64 is quadratic


WORD = "Zx9SECRETzz8Q1x2w3e4"
FIELDS = (
    "token authToken authtoken accessToken access_token refreshToken clientSecret client_secret apiKey apikey api-key "
    "privateKey secretkey secretKey pass passphrase passwd userPassword bearer sessionid session_id oauth_token code "
    "AuthToken HF_TOKEN X-Amz-Signature Signature sig key token[] to%6ben page_access_token sessionToken"
)
ADDRESSES = (
    "https://me:my {}@host/x", "https://me:a,b {}@host", "https:///me:{}@h", "https:/me:{}@h", "https://me:pa/{}@h",
    "https://me:/{}@h", "https://me:a://{}@h", "https://{}@h/x", "s3://{}@bucket", "https:\\/\\/me:{}@h", "://me:{}@h",
    "git+ssh://git:{}@h", "1https://me:{}@h", "https://proxy/https://me:{}@h", "https://h?u=https%3A%2F%2Fme%3A{}%40h",
    "https://h?token%3D{}", "https://h?u=https%3A%2F%2Fh%3Ftoken%3D{}", "https://h?token=a,{}", "https://h?token=a){}",
    "https://h?token=a'{}", "https://h?token='{}", "https://h?u=x?token=({}", "https://h;token={}", "https://h#token={}",
    '"https://me:a\\"{}@h"', "https://a.org,https://me:{}@h", "jdbc:postgresql://me:{}@h/db", "(https://me:a){}@h)",
    "https://me:123/{}@h", "https://m\te:{}@h", "https://me:\n{}@h", "https://me:a\r\n{}@h", "https://h?token:{}",
    "https://h?a=1&token%3A{}", "https://h?token&#61;{}", "https://h?k={}", "https://h?x=1&sig={}",
    "https://me:8000/{}@h", "https://first.last:8000/{}@h", "https://me:8000/a/{}@h", "https://me:443/{}@h",
    "//me:{}@h", "//me:pa/{}@h", "//h?token={}", "https://h?u=//me:{}@h", "\\/\\/me:{}@h",
    "https://h/token={}", "https://h/x/api_key={}/y", "https://h/a%2Ftoken={}", "//h/token={}", "s3://b/sig={}/x",
)  # fmt: skip
SHORT = (
    "https://me:8000/{}@h.org", "https://me:8000/{}@h:80/x", "https://h?code={}", "https://h?code=wdjb-{}", "//me:{}@h",
    "https://h?k={}", "https://h/token={}", "https://h/x?auth_code={}", "https://me:8000/{}@[::1]", "https://me:80/{}@1.2.3.4",
)  # fmt: skip
"""What hides a password as short as people choose."""
HARMLESS = (
    "https://h?page_token=2", "https://h?nextPageToken=CAUQ", "https://h?sort_key=date", "https://h?sortKey=date",
    "https://h?max_token=5", "https://h?max_tokens=5", "https://h?key=name", "https://h?key=1", "https://h?monkey=Ab1",
    "https://h?primary-key=id", "https://h?token=", "https://h?token={token}", "https://h?auth=none", "https://h?code=200",
    "https://h?country_code=GB", "https://h?token_type=x", "git+ssh://git@github.com/me/x", "ssh://me@host/x",
    "sftp://me@host/x", "git+https://git@github.com/me/x", "https://h,me@x.org", '{"u":"https://h","m":"a@b.c"}',
    '{"u":"https://h:80","m":"a@b.c"}', '{\\"u\\":\\"https://h\\",\\"m\\":\\"a@b.c\\"}', "['https://h','a@b']",
    "see <https://h>:me@x", "See https://h.org: mail me@x.org", "https://h:80 me@x", "file:///me:x@y/z", "C:/me@x",
    "hf://datasets/me/set@main/x", "https://h:8000/v1@x", "https://medium.com/@me/x", "http://[::1]:80/a@b",
    "chrome://a@b", "https://h?hl=en#sig=1", "https://host:/@u", "https://h:443/@u/x", "https://h?k=5", "https://h?k=cats",
    "https://h\nme@x.org", "https://h:80\nm:e@x.org", "http://localhost:123/v1@x", "https://h:81/v1@x", "https://h#a:b",
    "https://h?q=token:abc", "https://h?u=https://g", "https://h\nmail: me@x.org", "https://h\tme@x",
    "https://h:8000/Qwen/Qwen2.5-7B-Instruct@main", "https://h:8000/pkg@1.2.3", "https://h.org:8000/a@b.c", "// me:a@b",
    "//h/x", "//h:80/x@y", "a//me:b@c", "//me@h", "https://h?code=gb", "https://h?code=en-GB", "https://h?code=not_found",
    "s3://b/key=7/part", "s3://b/key=name/part", "s3://b/sort_key=Ab12/part", "s3://b/tokens=100/x", "https://h/token=",
    "https://h?k=10000000", "https://h?k=cats+dogs", "https://h/x=1/y", "https://h/A:B@C", "https://h?q=a@b",
    "C:\\\\Users\\\\me@x",
)  # fmt: skip


@pytest.mark.parametrize("given", [f"https://h/x?a=1&{name}={{}}&b=2" for name in FIELDS.split()] + list(ADDRESSES))
def test_a_secret_is_struck_out_and_refused(given):
    text = given.format(WORD)
    for around in ("{}", "no rows at {}", "(see {})"):
        shown = without_secrets(around.format(text))
        assert "SECRET" not in shown
        assert without_secrets(shown) == shown
    with pytest.raises(ValueError, match=r"^here holds an address with a") as refused:
        refuse_secret(text, "here")
    assert "SECRET" not in str(refused.value)


@pytest.mark.parametrize("given", SHORT)
def test_a_short_one_too(given):
    text = given.format("hunter22")
    assert "hunter" not in without_secrets(f"no rows at {text}")
    with pytest.raises(ValueError, match=r"^here holds an address with a"):
        refuse_secret(text, "here")


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_is_left_as_it_is_and_taken(text):
    assert without_secrets(text) == text
    refuse_secret(text, "here")
