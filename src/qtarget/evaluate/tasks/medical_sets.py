"""Rows of the medical multiple-choice sets, each in its own format, as questions."""

from collections import Counter
from collections.abc import Iterable, Sequence

from qtarget.evaluate.grading.option_names import letter
from qtarget.evaluate.nouns import Question, QuestionSet
from qtarget.evaluate.tasks.fields import Fields, Row, content_id, numbered
from qtarget.evaluate.tasks.order import shuffled

YES_NO_MAYBE = ("yes", "no", "maybe")


def lettered(rows: Sequence[Row]) -> QuestionSet:
    """MedQA, MedXpertQA, Lancet, NEJM and m1's own file: ``options`` by letter, and the right one in ``answer_idx``."""
    return _question_set(_lettered(fields) for fields in numbered(rows))


def medbullets(rows: Sequence[Row]) -> QuestionSet:
    """`lettered`, where questions stand twice, with four options and with five: both in one cluster."""
    return _question_set(_lettered(fields, cluster=True) for fields in numbered(rows))


def medmcqa(rows: Sequence[Row]) -> QuestionSet:
    """MedMCQA: options ``opa`` to ``opd``, the right one's place from 0 in ``cop``; −1 is a row without a label."""
    every = list(numbered(rows))
    labelled = [fields for fields in every if fields.get("cop") != -1]
    if every and not labelled:
        raise ValueError(
            f"None of the {len(every)} rows has a label (`cop` is -1 in all); this is the test split. Use `validation`."
        )
    read = _question_set(_medmcqa(fields) for fields in labelled)
    left_out = len(every) - len(labelled)
    remark = f"{left_out} of {len(every)} rows have no label (`cop` is -1) and are left out"
    return read._replace(remarks=(remark, *read.remarks)) if left_out else read


def pubmedqa(rows: Sequence[Row]) -> QuestionSet:
    """PubMedQA with labels: the abstract's parts, the question, and yes, no or maybe as ``final_decision``."""
    return _question_set(_pubmedqa(fields) for fields in numbered(rows))


def mmlu_pro_health(rows: Sequence[Row]) -> QuestionSet:
    """MMLU-Pro's category health: up to ten ``options`` and the right one's letter in ``answer``."""
    health = [fields for fields in numbered(rows) if fields.text("category") == "health"]
    if not health:
        raise ValueError(f"None of the {len(rows)} rows has `category` health; give rows of MMLU-Pro's test split.")
    return _question_set(_mmlu_pro(fields) for fields in health)


def mmlu_pro(rows: Sequence[Row]) -> QuestionSet:
    """MMLU-Pro, all of its categories."""
    return _question_set(_mmlu_pro(fields) for fields in numbered(rows))


def gpqa_whole(rows: Sequence[Row]) -> QuestionSet:
    """A subset of GPQA, all of its domains; see `gpqa`."""
    return _question_set(_gpqa(fields) for fields in numbered(rows))


def gpqa(rows: Sequence[Row]) -> QuestionSet:
    """GPQA's biology: one right and three wrong answers, shown in an order that the question's text decides."""
    biology = [fields for fields in numbered(rows) if fields.text("High-level domain") == "Biology"]
    if not biology:
        raise ValueError(f"None of the {len(rows)} rows has `High-level domain` Biology; give rows of GPQA.")
    return _question_set(_gpqa(fields) for fields in biology)


def _lettered(fields: Fields, cluster: bool = False) -> Question:
    stem, options, gold = fields.text("question"), _by_letter(fields), fields.text("answer_idx")
    if gold not in options:
        raise fields.wrong(f"has {gold!r} for `answer_idx`, which is none of its options {', '.join(options)}")
    return _question(fields, stem, list(options.values()), list(options).index(gold), cluster=cluster)


def _by_letter(fields: Fields) -> dict[str, str]:
    """The options by letter. Where rows have four or five, tables fill a missing E with null."""
    given = fields.get("options")
    options = {key: str(text) for key, text in given.items() if text is not None} if isinstance(given, dict) else {}
    if not options or list(options) != [letter(i) for i in range(len(options))]:
        raise fields.wrong(f'has {given!r} for `options`, where {{"A": …, "B": …}} is expected')
    return options


def _medmcqa(fields: Fields) -> Question:
    options = [fields.text(name) for name in ("opa", "opb", "opc", "opd")]
    return _question(fields, fields.text("question"), options, fields.get("cop"), name=fields.text("id"), field="cop")


def _pubmedqa(fields: Fields) -> Question:
    context, decision = fields.get("context"), fields.text("final_decision")
    parts = context.get("contexts") if isinstance(context, dict) else None
    if not parts:
        raise fields.wrong(f'has {context!r} for `context`, where {{"contexts": […]}} is expected')
    if decision not in YES_NO_MAYBE:
        raise fields.wrong(f"has {decision!r} for `final_decision`, where yes, no or maybe is expected")
    stem = "\n".join([*parts, fields.text("question")])
    return _question(fields, stem, YES_NO_MAYBE, YES_NO_MAYBE.index(decision), name=str(fields.get("pubid")))


def _mmlu_pro(fields: Fields) -> Question:
    options, gold, place = fields.get("options"), fields.text("answer"), fields.get("answer_index")
    if not isinstance(options, list):
        raise fields.wrong(f"has {options!r} for `options`, where a list is expected")
    if not isinstance(place, int) or gold != letter(place):
        raise fields.wrong(f"has {gold!r} for `answer` and {place!r} for `answer_index`, which say different things")
    name = str(fields.get("question_id"))
    return _question(fields, fields.text("question"), options, place, name=name, field="answer_index")


def _gpqa(fields: Fields) -> Question:
    stem = fields.text("Question")
    names = ("Correct Answer", *(f"Incorrect Answer {i}" for i in (1, 2, 3)))
    answers = [fields.text(name) for name in names]
    order = shuffled(len(answers), stem)
    options = [answers[place] for place in order]
    return _question(fields, stem, options, order.index(0), name=str(fields.row.get("Record ID") or ""))


def _question(
    fields: Fields,
    stem: str,
    options: Sequence[str],
    gold: object,
    *,
    name: str = "",
    field: str = "answer_idx",
    cluster: bool = False,
) -> Question:
    """A question with its options shown behind it, as in m1: ``A. text``, a line each."""
    if isinstance(gold, bool) or not isinstance(gold, int) or gold not in range(len(options)):
        raise fields.wrong(f"has {gold!r} for `{field}`, where the place of one of {len(options)} options is expected")
    options = tuple(str(option).strip() for option in options)
    text = "\n".join([stem, *(f"{letter(i)}. {option}" for i, option in enumerate(options))])
    qid = name or content_id(text)
    return Question(qid, text, letter(gold), options, content_id(stem) if cluster else "")


def _question_set(questions: Iterable[Question]) -> QuestionSet:
    every = list(questions)
    return QuestionSet(every, _duplicate_options(every))


def _duplicate_options(questions: Sequence[Question]) -> tuple[str, ...]:
    """A remark on questions that show an option twice, where there are any."""
    twice = [question for question in questions if len(set(_folded(question))) < len(question.options)]
    right = [question for question in twice if Counter(_folded(question))[_gold_text(question)] > 1]
    if not twice:
        return ()
    names = ", ".join(question.qid for question in twice[:5]) + (", …" if len(twice) > 5 else "")
    return (f"{len(twice)} questions show an option twice, {len(right)} of them the right one: {names}",)


def _folded(question: Question) -> list[str]:
    return [" ".join(option.casefold().split()) for option in question.options]


def _gold_text(question: Question) -> str:
    return _folded(question)[ord(question.gold) - ord("A")]
