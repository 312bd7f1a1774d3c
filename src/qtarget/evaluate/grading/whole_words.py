"""Whether a text stands in another as whole words and whole numbers, asked of the second once, in linear time."""

import re
from functools import lru_cache

NO_SPACES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1100-\u11ff\u3040-\u30ff\u3130-\u318f\u3400-\u9fff\uac00-\ud7af"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Signs of scripts that write words without spaces, or join particles to them: Chinese, Japanese, Korean, Thai, …"""
IN_WORD = rf"[^\W{NO_SPACES}]"
ONE_LETTER = rf"[^\W\d_{NO_SPACES}]"
BLANK, DASH, CURRENCY_SIGNS = " \u00a0\u2009\u202f", r"-−–‒－⁻^", "$€£¥₹"
BEFORE_NUMBER = (
    r"\d[.,/:'’_–—~]",
    r"[^\W_][-−–^]",
    rf"[-−–][{CURRENCY_SIGNS}]",
    *(
        rf"(?<![^\W\d_])[{DASH}]{rest}"
        for rest in ("", r"\s", rf"[{CURRENCY_SIGNS}(]", rf"\s[{CURRENCY_SIGNS}(]", rf"[{CURRENCY_SIGNS}(]\s")
    ),
    rf"(?<![^\W\d_])[{DASH}]\s[{CURRENCY_SIGNS}(]\s",
)
AFTER_NUMBER = rf"[.,/:'’]\d|[{BLANK}]\d{{3}}(?!\d)|[-−–—~]\d|[\^²³⁰¹⁴-⁹½¼¾]"
"""What makes digits a part of another number: 3.5, 1/5, -5, 5^2, 5 000, - 5."""
PRICE = re.compile(rf"[{CURRENCY_SIGNS}]\d")
BEFORE_PRICE = (rf"(?<![^\W\d_])[{DASH}]", rf"(?<![^\W\d_])[{DASH}]\s")
SIGNED = re.compile(r"[-−+.]\d")
BEFORE_SIGN = r"(?:[^\W_]|[)\-−+])"
AFTER_NAME = r"\+\+|[#+](?!\w)"
"""Behind a letter: it is the name of something else, as C++ and C#."""


def stands_in(gold: str, text: str) -> bool:
    """Whether one text stands in another as whole words and whole numbers. Blanks are single spaces in both."""
    return _found_by(gold).search(text) is not None


@lru_cache(1000)
def _found_by(gold: str) -> re.Pattern[str]:
    """The gold with what must not stand before and behind it. It stands first, since it is looked for fastest so."""
    written = re.escape(gold)
    before = "".join(f"(?<!{sign}{written})" for sign in _not_before(gold))
    if gold[0].isdigit():
        before += rf"(?<!\d[{BLANK}](?=\d{{3}}(?!\d)){written})"
    behind = "|".join(_not_behind(gold))
    return re.compile(f"{written}(?!{behind}){before}" if behind else written + before)


def _not_before(gold: str) -> list[str]:
    """What makes the word or the number longer at its beginning; each of one length."""
    signs = [IN_WORD] if re.match(IN_WORD, gold) else []
    signs += [f"{ONE_LETTER}-"] if re.match(ONE_LETTER, gold) else []
    signs += [BEFORE_SIGN] if SIGNED.match(gold) else []
    signs += BEFORE_PRICE if PRICE.match(gold) else ()
    return signs + (list(BEFORE_NUMBER) if gold[0].isdigit() else [])


def _not_behind(gold: str) -> list[str]:
    signs = [IN_WORD] if re.match(IN_WORD, gold[-1]) else []
    signs += [f"-{ONE_LETTER}"] if re.match(ONE_LETTER, gold[-1]) else []
    signs += [r"['’]t(?!\w)"] if gold[-1].isalpha() else []  # as in can't
    signs += [AFTER_NAME] if gold[-1].isalpha() else []
    return signs + ([AFTER_NUMBER] if gold[-1].isdigit() else [])
