r"""What Math-Verify takes for equal and is not: anagrams, derivatives, bounds."""

import re

from qtarget.evaluate.grading.plain_text import plain

_WORDS = re.compile(r"[A-Za-z]+(?: +[A-Za-z]+)*")
FUNCTIONS = re.compile(r"\b(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?\b|\b(?:log|exp|lim|max|min|gcd|lcm|det|sqrt)\b")
ALPHABET = "abcdefghijklmnopqrstuvwxyz"
PRIMES = re.compile(r"(?<=[\w)}])(?:\s*(?:\^\s*\{?\s*(?:\\prime\s*)+\}?|'|\"))+(?![A-Za-z])")
PERCENT = re.compile(r"\\?%|\\(?:text|mathrm)\s*\{\s*per\s?cent|\bper\s?cent", re.IGNORECASE)
NUMBER_ALONE = re.compile(r"-?\d+(?:\.\d+)?|-?\.\d+")
SEVERAL = re.compile(r"[,;]|\\pm|\\mp|\b(?:and|or)\b|[(\[{]\s*[^()\[\]{}]*,")
RELATION = re.compile(r"\\(?:[gl]eq?|[gl]t|neq?)(?![A-Za-z])|[<>]")
BOUNDS = re.compile(r"\\infty|[(\[].*,.*[)\]]")


def is_unlike(gold: str, answer: str) -> bool:
    """Whether an answer that Math-Verify calls equal to the gold is another word, another derivative, or a bound."""
    if is_word(gold):
        return _letters(gold) not in _letters(answer)
    if _primes(gold) != _primes(answer) or _says_twice(gold, answer):
        return True
    return RELATION.match(answer) is not None and not RELATION.search(gold) and not BOUNDS.search(gold)


def is_in_percent(gold: str, answer: str, question: str) -> bool:
    """Whether an answer is the gold's number in per cent, where neither the gold nor the question is of per cent."""
    if not PERCENT.search(answer) or PERCENT.search(gold) or PERCENT.search(question):
        return False
    return list(map(float, NUMBER_ALONE.findall(answer))) == list(map(float, NUMBER_ALONE.findall(gold)))


def _says_twice(gold: str, answer: str) -> bool:
    """Whether an answer lists more than the gold does, as "5, 5" for 5: as sets the two are equal."""
    parts = [part for part in re.split(r"(?<!\\)[,;]", answer) if re.search(r"\w", part)]
    if len(parts) < 2 or re.search(r"[()\[\]{}]", answer):
        return False
    return not SEVERAL.search(gold) or len({part.strip() for part in parts}) < len(parts)


def is_word(gold: str) -> bool:
    """Whether a gold is words and no product: "no", or letters of which three or more stand together, and not as in
    the alphabet (abc, xyz), and that name no function."""
    if not _WORDS.fullmatch(gold) or FUNCTIONS.search(gold):
        return False
    return gold.lower() == "no" or any(len(word) > 2 and word.lower() not in ALPHABET for word in gold.split())


def _letters(text: str) -> str:
    return re.sub(r"[^a-z]", "", plain(text).casefold())


def _primes(text: str) -> list[int]:
    return [run[0].count("'") + run[0].count(r"\prime") for run in PRIMES.finditer(text)]
