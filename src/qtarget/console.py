"""What commands print: text that is not ours cannot command the terminal, and every encoding can show ours.

Paths, rows, answers and names of models come from anywhere. `visible` makes their control characters readable, and
`SafeConsole` applies it to all that it prints. `printable` makes such a text one short line of an error.
`accept_any_encoding` lets a stream that cannot write γ write gamma.
"""

import codecs
import io
import re
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from qtarget.servers.address_secrets import without_secrets

COMMANDING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that move a cursor, colour or reorder what follows, or are no characters at all; not \\n and \\t."""
FALLBACK = "qtarget-plain"
"""The name of our handler of characters that a stream's encoding does not have."""
PLAIN = {
    "\xa0": " ", "±": "+/-", "²": "^2", "·": "*", "×": "x", "\u0303": "~", "Π": "Pi", "Σ": "sum", "α": "alpha",
    "β": "beta", "γ": "gamma", "η": "eta", "θ": "theta", "κ": "kappa", "λ": "lambda", "π": "pi", "ρ": "rho", "τ": "tau",
    "φ": "phi", "ᵀ": "^T", "–": "-", "—": "-", "‖": "||", "’": "'", "“": '"', "”": '"', "…": "...", "ℓ": "l",
    "→": "->", "↵": "\\n", "⇥": "\\t", "∂": "d", "∅": "(empty)", "−": "-", "∘": "o", "∝": "~", "∞": "inf", "≠": "!=",
    "≤": "<=", "≥": ">=", "␣": "_", "█": "#", "⟦": "[[", "⟧": "]]", "━": "-", "╸": "-", "╺": " ", "─": "-", "│": "|",
    "•": "*", "√": "sqrt", "\ufffd": "?", "½": "1/2", "δ": "delta", "ε": "epsilon", "σ": "sigma",
    "←": "<-", "⟨": "<", "⟩": ">", "¦": "|",
}  # fmt: skip
"""What stands for our characters where an encoding lacks them."""


def visible(text: str) -> str:
    r"""The text with characters that would command a terminal spelled out, as in ``\x1b[2J``.

    >>> visible("\x1b[2Jrows\u202egpj")
    '\\x1b[2Jrows\\u202egpj'
    """
    return COMMANDING.sub(lambda found: _escape(found[0]), text)


def shortened(text: str, most: int = 120) -> str:
    """The text, or its beginning where it is longer than anybody reads in an error. A secret in an address is struck
    out before it is cut: of one that is cut nobody sees that it is one."""
    text = without_secrets(text)
    return text if len(text) <= most else f"{text[:most]}…"


def spelled_out(text: str) -> str:
    r"""The text on one line: every character that is not printable, a line break too, spelled out.

    >>> spelled_out("two\nlines\x07")
    'two\\nlines\\x07'
    """
    return "".join(sign if sign.isprintable() else _escape(sign) for sign in text)


def printable(text: str, most: int = 60) -> str:
    """The beginning of a text from a user's file or row, on one line, as an error shows it."""
    return spelled_out(shortened(text, most))


def _escape(sign: str) -> str:
    return sign.encode("unicode_escape").decode()


class SafeConsole(Console):
    """rich's console, on which every text is `visible`, and where neither ``[red]`` nor ``:smile:`` in it does anything
    unless `markup=True` is said where it is printed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """Text of a table's cell is `visible` before its width is measured, so that nothing of it is cut off."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def amount(number: int, noun: str) -> str:
    """A count with its noun: "1 step", "1,200 steps"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def accept_any_encoding() -> None:
    """Let this process's output and error streams write what their encoding lacks in other words, and never fail."""
    codecs.register_error(FALLBACK, _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=FALLBACK)


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Python's handler of an error: what to write for the characters that cannot be encoded, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking), error.end
