"""Wrong answers in numbers: made from a right one by what models get wrong, each told from the right one by how it is
made. The same seed makes the same ones."""

from collections.abc import Callable, Iterator
from random import Random

from evaluate.golden_cases import LETTERS, TEN

from qtarget.evaluate.nouns import Question

Wrong = tuple[Question, str]

SENTENCES = (
    "The answer is {}.",
    "Answer: {}",
    "**Final answer:** ({})",
    "The correct option is {} because it works.",
    "\\boxed{{{}}}",
    "<answer>{}</answer>",
    "I would choose {}.",
    "Therefore, {} is the correct answer.",
    "La respuesta correcta es {}.",
    "Die Antwort ist {}.",
    "答案是{}。",
    "答え：{}",
    "Правильный ответ: {}",
    "La réponse est {}.",
    "정답은 {}입니다.",
    "{}",
    "A resposta é {}.",
    "La risposta è {}.",
    "Het antwoord is {}.",
    "الإجابة هي {}",
    "Cevap: {}",
    "Đáp án: {}",
    "Antwort {} ist richtig.",
    "Option {} ist richtig.",
    "La respuesta {} es correcta.",
    "La réponse {} est correcte.",
)
DENIALS = (
    "The answer is not {}.",
    "The answer isn't {}.",
    "It cannot be said that the answer is {}.",
    "{} is not the correct answer.",
    "Answer {} is incorrect.",
    "Answer: {} is wrong.",
    "\\boxed{{not {}}}",
    "Some say the answer is {}.",
    "Is the answer {}?",
    "If the answer is {}, all is well.",
    "The wrong answer is {}.",
    "The answer is {}. Wait, that is wrong.",
    "Answer: {}. Nah.",
    "Antwort {} ist falsch.",
    "Option {} ist nicht richtig.",
    "La opción {} no es correcta.",
    "I would not choose {}.",
    "La respuesta no es {}.",
    "Die Antwort ist nicht {}.",
    "答案不是{}。",
    "答えは{}ではありません。",
    "Неправильный ответ: {}",
    "La réponse n'est pas {}.",
    "정답은 {}가 아닙니다.",
    "The answer is {}?",
    "Neither {} nor any other is the correct answer.",
    "The answer is anything but {}.",
    "I doubt that the answer is {}.",
    "A common answer is {}.",
    "The answer could be {}.",
    "<think>The answer is {}.</think>",
    "<think>\\boxed{{{}}}",
    "Options: {}. Which one?",
    "\\boxed{{{}",
    "My first answer is {}.",
)
PAIRS = (
    "The answer is {} or {}.",
    "The answer is {} and {}.",
    "\\boxed{{{}, {}}}",
    "\\boxed{{{}}} and \\boxed{{{}}}",
    "Both {} and {}.",
    "The answer is {}/{}.",
    "Either {} or {}.",
    "答案是{}和{}。",
    "La respuesta es {} o {}.",
    "The answer is between {} and {}.",
)
THEN = (
    "<think>The answer is {right}.</think>The answer is {wrong}.",
    "<think>\\boxed{{{right}}}</think>\\boxed{{{wrong}}}",
    "\\boxed{{{right}}} Wait, no: \\boxed{{{wrong}}}",
    "The answer is {right}. No, the answer is {wrong}.",
    "I thought {right}. But the correct answer is {wrong}. Answer {right} is incorrect.",
    "so {right}</think>**{wrong}**",
    "The answer is {wrong}, not {right}.",
    "\\boxed{{{right}}}\n\nThe final answer is {wrong}.",
    "[THINK]{right}[/THINK]Answer: {wrong}",
)


def wrong_choices(random: Random, number: int) -> Iterator[Wrong]:
    """Completions that state another option, deny the right one, state two, or think the right one and say another."""
    for _ in range(number):
        options = tuple(random.sample(TEN, random.choice([4, 5, 10])))
        right, other = random.sample(range(len(options)), 2)
        question = Question("q", "?", LETTERS[right], options)
        yield question, random.choice(CHOICES)(random, *(_spelt(random, options, place) for place in (right, other)))


def _spelt(random: Random, options: tuple[str, ...], place: int) -> str:
    """An option by its letter, mostly."""
    return random.choice([LETTERS[place]] * 5 + [options[place]])


def _another(random: Random, right: str, other: str) -> str:
    return random.choice(SENTENCES).format(other)


def _denial(random: Random, right: str, other: str) -> str:
    return random.choice(DENIALS).format(right)


def _pair(random: Random, right: str, other: str) -> str:
    return random.choice(PAIRS).format(*random.sample([right, other], 2))


def _change_of_mind(random: Random, right: str, other: str) -> str:
    return random.choice(THEN).format(right=right, wrong=other)


CHOICES: list[Callable[[Random, str, str], str]] = [_another, _another, _denial, _denial, _pair, _change_of_mind]


def wrong_expressions(random: Random, number: int) -> Iterator[Wrong]:
    """Boxed answers that differ from the gold in a digit, a sign, an exponent, a base, an end of an interval, …"""
    for _ in range(number):
        gold, answer = random.choice(EXPRESSIONS)(random)
        place = random.choice(
            ["\\boxed{{{}}}", "<think>\\boxed{{{gold}}}</think>\\boxed{{{}}}", "\\boxed{{{gold}}}, no: \\boxed{{{}}}"]
        )
        yield Question("q", "?", gold), place.format(answer, gold=gold)


def _digit(random: Random) -> tuple[str, str]:
    gold = random.randrange(10_000, 99_999)
    wrong = gold + random.choice([1, -1, 10, -10, 100, -100, 1000])
    form = random.choice(["{:,}", "{:,} \\text{{ cm}}", "x={:,}", "\\${:,}"]).format(wrong)
    return str(gold), form.replace(",", random.choice([",", "{,}", "\\,", " ", "\u00a0"]))


def _sign(random: Random) -> tuple[str, str]:
    number = random.randrange(2, 500)
    return str(number), random.choice(["-{}", "−{}", "x=-{}", "-\\frac{{{}}}{{1}}"]).format(number)


def _fraction(random: Random) -> tuple[str, str]:
    above, below = random.sample([3, 5, 7, 11, 13, 17, 19, 23], 2)
    wrong = random.choice([(below, above), (above + 1, below), (above, below + 1), (-above, below)])
    return rf"\frac{{{above}}}{{{below}}}", random.choice(
        [r"\frac{{{}}}{{{}}}", "{}/{}", r"\textcolor{{red}}{{\frac{{{}}}{{{}}}}}"]
    ).format(*wrong)


def _mixed(random: Random) -> tuple[str, str]:
    whole, below = random.randrange(1, 9), random.choice([3, 5, 7])
    gold = rf"\frac{{{whole * below + 1}}}{{{below}}}"
    return gold, random.choice(
        [f"{whole} 2/{below}", f"{whole + 1} 1/{below}", rf"{whole}\frac{{2}}{{{below}}}", f"{whole}½"]
    )


def _exponent(random: Random) -> tuple[str, str]:
    base, power = random.choice([2, 3, 10]), random.randrange(3, 12)
    wrong = power + random.choice([1, -1])
    gold = random.choice([f"{base}^{{{power}}}", f"{base**power}", f"{base}^{{-{power}}}"])
    return gold, f"{base}^{{-{wrong}}}" if "-" in gold else random.choice([f"{base}^{{{wrong}}}", f"{base**wrong}"])


def _base(random: Random) -> tuple[str, str]:
    digits, base = "".join(random.choices("1234", k=4)), random.randrange(5, 9)
    gold = f"{digits}_{base}"
    return gold, random.choice(
        [f"{digits}_{base + 1}", f"{digits[::-1]}1_{base}", digits, str(int(digits, base)), f"{digits}_{{10}}"]
    )


def _equation(random: Random) -> tuple[str, str]:
    one, two = random.randrange(2, 40), random.randrange(2, 40)
    wrong = one + two + random.choice([1, 2, -1])
    return str(wrong), random.choice(["{}+{}={}", "{}+{} \\approx {}", "x={}+{}={}"]).format(one, two, wrong)


def _denied(random: Random) -> tuple[str, str]:
    number = random.randrange(2, 500)
    return str(number), random.choice(
        ["\\text{{not }}{}", "x \\neq {}", "x ≠ {}", "{} \\text{{ is wrong}}", "\\text{{none}}"]
    ).format(number)


def _root(random: Random) -> tuple[str, str]:
    number = random.choice([2, 3, 5, 6, 7, 10])
    return rf"\sqrt{{{number}}}", random.choice(
        [f"√{number + 1}", f"{number}", rf"\sqrt[3]{{{number}}}", f"-√{number}", f"2√{number}"]
    )


def _decimal(random: Random) -> tuple[str, str]:
    number = random.randrange(101, 999) * 10 + 5
    return f"{number / 1000}", f"{(number + random.choice([1, -1, 10, 100])) / 1000}"


def _interval(random: Random) -> tuple[str, str]:
    low, high = random.randrange(-5, 0), random.randrange(1, 6)
    gold = random.choice([f"[{low},{high})", f"({low},{high}]"])
    wrong = [
        f"[{low},{high}]",
        f"({low},{high})",
        f"{low} < x < {high}",
        f"{low} \\le x \\le {high}",
        gold.replace(f"{high}", f"{high + 1}"),
    ]
    return gold, random.choice(wrong)


def _tiny(random: Random) -> tuple[str, str]:
    number = random.randrange(500, 3000)
    return rf"\frac{{1}}{{{number}!}}", random.choice(
        [rf"\frac{{1}}{{{number + 1}!}}", "0", rf"\frac{{2}}{{{number}!}}"]
    )


def _pair_of_numbers(random: Random) -> tuple[str, str]:
    one, two = random.sample(range(2, 90), 2)
    return f"({one},{two})", random.choice(
        [f"({two},{one})", f"[{one},{two}]", f"({one},{two + 1})", f"{one}", f"{one} < x < {two}"]
    )


EXPRESSIONS: list[Callable[[Random], tuple[str, str]]] = [
    _digit,
    _digit,
    _sign,
    _fraction,
    _mixed,
    _exponent,
    _base,
    _equation,
    _denied,
    _root,
    _decimal,
    _interval,
    _tiny,
    _pair_of_numbers,
]
