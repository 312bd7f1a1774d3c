"""Fields of an address's query that hold a secret, told by the words of their names."""

import re
from urllib.parse import unquote

_FIELD = re.compile(
    r"(?:[?&;#]|%3F|%26|%23)([\w.%\[\]-]+?)(?:=|%3D|&#61;|&#x3d;|(?::|%3A)(?!/|%2F))"
    r"|(?:/|%2F)([\w.\[\]-]+)(?:=|%3D)",
    re.IGNORECASE,
)
"""A field of the query, or one that a server has in its path."""
_VALUE_ENDS = re.compile(r"[\s&;#]|%26")
_PATH_VALUE_ENDS = re.compile(r"[\s&;#?/]|%26|%2F|%3F", re.IGNORECASE)
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
_CODE, _LONG_CODE = 6, 16
"""The fewest characters of a `code` that opens something: with a digit among its letters, or whatever it is made of.
Others are of countries, languages and errors."""
_KEY = 8
"""The fewest of a key that is named by its letter (`k`), which also stands for how many and for keywords."""
_WORDS_OR_NUMBER = re.compile(r"[a-z_+-]+|\d{1,9}")
_SIGNATURE = 8
"""Likewise of a signature; shorter ones are numbers of something."""


def without_secret_fields(query: str) -> str:
    """The text of an address with … in the place of each secret among its fields.

    >>> without_secret_fields("host/x?page_token=2&accessToken=abc")
    'host/x?page_token=2&accessToken=…'
    """
    parts, done = [], 0
    for field in _FIELD.finditer(query):
        ends_at = _VALUE_ENDS if field[1] else _PATH_VALUE_ENDS
        value = ends_at.split(query[field.end() : field.end() + _PEEKED], maxsplit=1)[0]
        if field.start() >= done and _is_secret(unquote(field[1] or field[2]), value):
            ends = ends_at.search(query, field.end())
            parts += [query[done : field.end()], "…"]
            done = ends.start() if ends else len(query)
    return "".join([*parts, query[done:]])


def _is_secret(name: str, value: str) -> bool:
    words = [word.lower() for word in _WORDS.findall(name[-200:])]
    if not words or not value or _PLACEHOLDER.fullmatch(value):
        return False
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last == "code":
        return before in ("", "auth", "authorization", "access", "function") and _opens(value)
    if last == "k":
        return not before and len(value) >= _KEY and not _WORDS_OR_NUMBER.fullmatch(value)
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


def _opens(code: str) -> bool:
    has_both = any(each.isdigit() for each in code) and any(each.isalpha() for each in code)
    return len(code) >= (_CODE if has_both else _LONG_CODE)


def _ends_as_secret(word: str) -> bool:
    """Whether several words are written as one: `authtoken`, `secretkey`; not `monkey`, nor `nextpagetoken`."""
    for end in _SECRET_ENDS:
        if word.endswith(end):
            return not _HARMLESS.fullmatch(word.removesuffix(end))
    return word.endswith("key") and bool(_KEYS.fullmatch(word.removesuffix("key")))
