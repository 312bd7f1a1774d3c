"""Secrets in addresses: a user or password in front of the host, or a token in the query.

They are struck out of what is shown, and refused where what the user writes comes in: records of runs repeat it.
Texts come from anywhere, so every step takes time linear in the text.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from qtarget.servers.secret_fields import without_secret_fields

HUB_OR_NETRC = "the environment (HF_TOKEN for the hub, ~/.netrc for other servers)"
"""Where a secret belongs that is of no server of qtarget's."""
_SHOWN = 120
_SLASHES = re.compile(r":(?P<behind>(?:\\?/)+)|(?<![^\s\"'`<>()\[{,;=|&?#-])(?P<alone>(?:\\?/){2}(?!\\?/))")
"""Behind a scheme, or alone: `//host` is of the scheme that the page has which it stands in."""
_BLANK = re.compile(r"\s")
_SCHEME = re.compile(r"[A-Za-z0-9+.-]*\Z")
_LONGEST_SCHEME = 32
_OPENS_ANOTHER = frozenset("\"'`<>()[]{},;=|&?#/")
"""Signs before an address inside another; behind any other sign, `x://` may be a part of a password."""
_CLOSED_BY = {'"': '"', "'": "'", "`": "`", "<": ">"}
_AUTHORITY = re.compile(r"[^/?#]*")
_BEHIND_BLANKS = re.compile(r"[^@]{0,100}@[\w.\[][^\s]*")
_ENCODED_USER = re.compile(r"(%3A%2F%2F)(?:(?!%2F|%3F|%40)[^\s&;#@]){1,200}%40", re.IGNORECASE)
_BROKEN = re.compile(r"(?:[\t\r\n]+[^\s/?#@]{0,100}){1,3}@[\w.\[][^\s]*")
"""The rest of an address whose user or password was broken over lines or by tabs, which a browser passes over."""
_CAN_HOLD = re.compile(r"[@=?&#;]|%3D|%3F|%26|%23|%40", re.IGNORECASE)
"""One of these is in every text with a secret in an address."""
_DRAWN_RUN = re.compile(r"(?<![A-Za-z0-9])(?=[A-Za-z]{0,30}\d)(?=\d{0,30}[A-Za-z])[A-Za-z0-9]{12,}")
_HOST = re.compile(
    r"\[[\da-fA-F:]+\]|(?:\d{1,3}\.){3}\d{1,3}(?![\w.])|[\w-]{1,63}(?:\.[\w-]{1,63})*(?:\.[A-Za-z]{2,24}(?![\w.])|:\d)"
)
_LOW_PORTS = frozenset(
    (21, 22, 25, 53, 80, 81, 88, 110, 143, 389, 443, 444, 445, 465, 587, 591, 631, 636, 873, 989, 990, 993)
)
"""Ports below 1024 that somebody serves at."""
_USER_ALONE = ("ssh", "sftp", "scp", "svn", "file", "chrome", "about", "resource", "vscode")
"""How schemes end in which a user without a password is no secret."""


class _Address(NamedTuple):
    """A part of a text: it begins with its scheme, if it has one, and `start` is where user or host begin."""

    begin: int
    scheme: str
    slashes: int
    start: int
    end: int
    is_alone: bool = False


def without_secrets(text: str) -> str:
    """The text with … in the place of each secret in its addresses.

    >>> without_secrets("no rows at https://me:word@host/x?part=1&token=abc")
    'no rows at https://…@host/x?part=1&token=…'
    """
    if not _CAN_HOLD.search(text):
        return text
    parts, done = [], 0
    for address in _addresses(text):
        parts += [text[done : address.start], without_secret_fields(_without_user(text, address))]
        done = address.end
    return "".join([*parts, text[done:]])


def refuse_secret(text: str, where: str, variable: str = HUB_OR_NETRC) -> None:
    """Refuse a text with an address that holds a secret.

    Args:
        where: the text's place, at the beginning of the sentence: "config.yaml, line 3: `teacher`".
        variable: where the secret belongs.

    Raises:
        ValueError: the place, the address without its secret, and `variable`.
    """
    for address in _addresses(text):
        given, no_user = text[address.start : address.end], _without_user(text, address)
        if (shown := without_secret_fields(no_user)) != given:
            what = "a secret in its query" if no_user == given else "a user or a password"
            whole = f"{text[address.begin : address.start].lower()}{shown}"
            raise ValueError(
                f"{where} holds an address with {what} ({whole[:_SHOWN]}), which would be saved with the run; write it "
                f"without, and put the secret into {variable}."
            )


def _addresses(text: str) -> Iterator[_Address]:
    """Every address, up to a blank, to the quote that closes it, or to another address."""
    found = [(each, _scheme_before(text, each.start())) for each in _SLASHES.finditer(text)]
    done = 0
    for number, (slashes, scheme) in enumerate(found):
        if slashes.start() < done:
            continue
        end, following = slashes.end(), number + 1
        while following < len(found):
            begin = found[following][0].start() - len(found[following][1])
            stop = _stop(text, slashes.start() - len(scheme), end, begin)
            if stop is not None or (
                text[begin - 1] in _OPENS_ANOTHER and _before_host(found[following][0]).count("/") > 1
            ):
                break
            end, following = found[following][0].end(), following + 1
        limit = found[following][0].start() - len(found[following][1]) if following < len(found) else len(text)
        stop = _stop(text, slashes.start() - len(scheme), end, limit)
        address = _Address(
            slashes.start() - len(scheme),
            scheme.lower(),
            _before_host(slashes).count("/"),
            slashes.end(),
            limit if stop is None else stop,
            slashes["alone"] is not None,
        )
        done = _with_blanks(text, address, limit)
        yield address._replace(end=done)


def _before_host(slashes: re.Match[str]) -> str:
    return slashes["behind"] or slashes["alone"]


def _scheme_before(text: str, colon: int) -> str:
    known = _SCHEME.search(text[max(0, colon - _LONGEST_SCHEME) : colon])
    return known[0] if known else ""


def _stop(text: str, begin: int, start: int, limit: int) -> int | None:
    """Where an address ends that began at `begin`, if it does so between `start` and `limit`."""
    blank = _BLANK.search(text, start, limit)
    end = blank.start() if blank else limit
    before = text[begin - 1 : begin]
    if before in _CLOSED_BY and before:
        escaped = text[begin - 2 : begin - 1] == "\\"
        closes = text.find(_CLOSED_BY[before], start, end)
        while closes >= 0 and not escaped and text[closes - 1] == "\\":
            closes = text.find(_CLOSED_BY[before], closes + 1, end)
        end = closes if closes >= 0 else end
    return end if end < limit or blank else None


def _with_blanks(text: str, address: _Address, limit: int) -> int:
    """The end of an address whose password holds blanks."""
    given = text[address.start : address.end]
    authority = _authority(given)
    user, colon, word = authority.partition(":")
    if given == authority and "@" not in given and address.slashes > 1 and not (word and _is_port(word)):
        broken = _BROKEN.match(text, address.end, limit)
        if broken and user and (colon or ":" in broken[0].partition("@")[0]):
            return broken.end()
    if "@" in given or not user or not word or "[" in user or _is_port(word) or address.slashes < 2:
        return address.end
    more = _BEHIND_BLANKS.match(text, address.end, limit) if _BLANK.match(text, address.end) else None
    return more.end() if more else address.end


def _without_user(text: str, address: _Address) -> str:
    given = text[address.start : address.end]
    end = _user_end(address, given)
    return _ENCODED_USER.sub(r"\1…%40", f"…{given[end:]}" if end else given)


def _user_end(address: _Address, given: str) -> int:
    """Where the @ behind a user or password stands; 0 where there is no secret."""
    authority = _authority(given)
    user, at, _ = authority.rpartition("@")
    if at and not (address.scheme == "file" and address.slashes > 2):
        return len(user) if ":" in user or not _is_harmless(user, address) else 0
    name, colon, word = authority.partition(":")
    if at or not colon or "[" in name or address.slashes != 2 or address.scheme == "file":
        return 0
    end = given.rfind("@")  # a password with a slash in it, which no address may have
    if end < 0 or given[:end] == f"{name}:/" or (_is_port_of(name, word) and not _hides_password(name, given, end)):
        return 0
    return end


def _hides_password(name: str, given: str, end: int) -> bool:
    """Whether a path between what looks like a port and an @ is the rest of a password: it looks drawn at random, or
    another host is behind it and none before."""
    path = given[:end].partition("/")[2].partition("?")[0]
    is_host = "." in name or name == "localhost"
    return bool(_DRAWN_RUN.search(path)) or bool(path and not is_host and _HOST.match(given, end + 1))


def _is_harmless(user: str, address: _Address) -> bool:
    """Whether a user without a password is none that a token may stand for."""
    is_list = "," in user  # hosts, or a host and somebody's mail
    is_none = address.is_alone or address.slashes != 2 or address.scheme.endswith(_USER_ALONE)
    return is_list or is_none or user == "git"


def _authority(given: str) -> str:
    found = _AUTHORITY.match(given)
    return found[0] if found else ""


def _is_port_of(name: str, word: str) -> bool:
    """Whether digits behind a name are a host's port, and not a password's beginning: few serve below 1024."""
    is_host = "." in name or name == "localhost"
    return _is_port(word) and (is_host or int(word) > 1023 or int(word) in _LOW_PORTS)


def _is_port(word: str) -> bool:
    return word.isascii() and word.isdigit() and int(word[:6]) < 65536
