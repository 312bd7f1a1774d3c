"""Fields of an address's query that hold a secret, told by the words of their names."""

import re
from urllib.parse import unquote

_FIELD = re.compile(r"(?:[?&;#]|%3F|%26|%23)([\w.%\[\]-]+?)(?:=|%3D|&#61;|&#x3d;|(?::|%3A)(?!/|%2F))", re.IGNORECASE)
_VALUE_ENDS = re.compile(r"[\s&;#]|%26")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_PEEKED = 64
"""How much of a value is looked at, to tell whether it can be a secret."""
_SECRET = re.compile(
    r"secret|password|passwd|passphrase|pass|pwd|signature|sig|auth|oauth|authorization|credential"
    r"|credentials|jwt|sas|bearer|token|tokens|key|sessionid|sessid"
)
_SECRET_ENDS = ("token", "secret", "password", "passwd", "passphrase", "signature", "credential", "credentials")
_KEYS = re.compile(r"api|secret|private|access|auth|app|client|master|signing|encryption|account|shared")
"""Words that are written as one with `key` behind them."""
_HARMLESS = re.compile(
    r"page|next|nextpage|previous|prev|continuation|cursor|pagination|sort|order|group|partition|primary"
    r"|foreign|max|min|num|stop|start|end|begin|first|last|eos|bos|pad|unk|sep|mask|row|column|cache|public"
    r"|publishable|index"
)
"""Words before `token` and `key` by which these are no secrets: of pages, of tables, of tokenizers."""
_PLACEHOLDER = re.compile(r"\$?\{+\w*\}+|\$[A-Z_]+|<\w+>|…")
_WORD_OR_NUMBER = re.compile(r"[a-z_-]{1,20}|\d{1,6}")
_NOT_AUTH = re.compile(r"none|basic|true|false|yes|no|on|off|0|1")
_CODE = 16
"""The fewest characters of a `code` that opens something; shorter ones are of countries, languages and errors."""
_SIGNATURE = 8
"""Likewise of a signature; shorter ones are numbers of something."""
_DRAWN = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[\w.~+/=-]{16,}", re.ASCII)
"""What a value drawn at random looks like, so that one named by a letter (`k`) can be told to be a key."""


def without_secret_fields(query: str) -> str:
    """The text of an address with … in the place of each secret among its fields.

    >>> without_secret_fields("host/x?page_token=2&accessToken=abc")
    'host/x?page_token=2&accessToken=…'
    """
    parts, done = [], 0
    for field in _FIELD.finditer(query):
        if field.start() >= done and _is_secret(unquote(field[1]), query[field.end() : field.end() + _PEEKED]):
            ends = _VALUE_ENDS.search(query, field.end())
            parts += [query[done : field.end()], "…"]
            done = ends.start() if ends else len(query)
    return "".join([*parts, query[done:]])


def _is_secret(name: str, behind: str) -> bool:
    words = [word.lower() for word in _WORDS.findall(name[-200:])]
    value = _VALUE_ENDS.split(behind, maxsplit=1)[0]
    if not words or not value or _PLACEHOLDER.fullmatch(value):
        return False
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last == "code":
        return len(value) >= _CODE and before in ("", "auth", "authorization", "access", "function")
    if last == "k":
        return not before and bool(_DRAWN.match(value))
    if last in ("sig", "signature"):
        return len(value) >= _SIGNATURE
    if last in ("auth", "oauth", "authorization"):
        return not _NOT_AUTH.fullmatch(value.lower())
    if last in ("token", "key"):
        return not _HARMLESS.fullmatch(before) and not (
            last == "key" and not before and _WORD_OR_NUMBER.fullmatch(value)
        )
    if last == "tokens":
        return not _HARMLESS.fullmatch(before) and not value.isdigit()
    return bool(_SECRET.fullmatch(last)) or (before, last) == ("session", "id") or _ends_as_secret(last)


def _ends_as_secret(word: str) -> bool:
    """Whether several words are written as one: `authtoken`, `secretkey`; not `monkey`, nor `nextpagetoken`."""
    for end in _SECRET_ENDS:
        if word.endswith(end):
            return not _HARMLESS.fullmatch(word.removesuffix(end))
    return word.endswith("key") and bool(_KEYS.fullmatch(word.removesuffix("key")))
