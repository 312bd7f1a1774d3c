"""Rows and questions of a setting: drawn from a seed, in four parts that have no question in common."""

import json
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from qtarget.data.json_lines import read_json
from qtarget.disk.files import json_digest, replace_text
from qtarget.evaluate.prompts import BOXED
from qtarget.evaluate.tasks.trained_questions import Pieces, pieces_of
from qtarget.study.real_models.real_protocol import RealSetting, RowPlan

GYM_SOURCE, OWN_SUMS = "reasoning-gym", "sums"
"""Sources of rows that are made here; any other is the name of a data set with rows as GSM8K has them."""
ANNOTATION = re.compile(r"<<[^>]*>>")
"""GSM8K's notes for a calculator."""
ROW_PARTS = ("train", "teacher", "development", "test")
ASKED_AS = {"chat": "{question}", "chat-boxed": "{question}\n" + BOXED}
"""The user's message under each prompt that a setting may name, as `evaluate.prompts` writes it."""


@dataclass(frozen=True)
class RealRow:
    """A row of the study.

    Attributes:
        answer: what is learned: the right answer with its steps, or one with a slip.
        gold: the right answer alone, by which answers are graded.
    """

    question: str
    answer: str
    gold: str


Parts = dict[str, list[RealRow]]


def made_rows(setting: RealSetting, folder: Path | None) -> Parts:
    """The rows of a setting, by part, as its `RowPlan` says.

    Args:
        folder: `train.jsonl` and `test.jsonl` in the place of a data set on the hub.

    Raises:
        ValueError: reasoning-gym or the data set is not there, has too few rows, or a question stands in two parts.
    """
    plan = setting.rows
    parts = _MAKERS.get(plan.source, partial(_data_set_parts, folder=folder))(plan)
    check_apart(parts, setting.name)
    dice = random.Random(plan.seed)
    wrong = set(dice.sample(range(plan.train), round(plan.wrong_share * plan.train)))
    parts["train"] = [with_slip(row, dice) if place in wrong else row for place, row in enumerate(parts["train"])]
    return parts


def check_apart(parts: Mapping[str, Sequence[RealRow]], name: str) -> None:
    """Refuse a question that stands in two parts, however it is spaced, capitalised or ended: above all one of
    development among those of the test.

    Raises:
        ValueError: names both parts and the question.
    """
    seen: dict[Pieces, str] = {}
    for part in ("test", "development", "teacher", "train"):
        for row in parts.get(part, ()):
            if (other := seen.setdefault(pieces_of(row.question), part)) != part:
                raise ValueError(
                    f"{name}: the {part} question {row.question[:60]!r} stands among those of {other}, so a result "
                    f"would be of questions seen before; take it out of one of the two."
                )


def with_slip(row: RealRow, dice: random.Random) -> RealRow:
    """The row with one digit of its answer changed to another.

    Raises:
        ValueError: the answer has no digit.
    """
    places = [place for place, sign in enumerate(row.answer) if sign.isdigit()]
    if not places:
        raise ValueError(f"`wrong_share` changes a digit, and the answer {row.answer!r} has none; write 0.")
    place = dice.choice(places)
    digit = dice.choice([each for each in "0123456789" if each != row.answer[place]])
    return RealRow(row.question, row.answer[:place] + digit + row.answer[place + 1 :], row.gold)


def _gym_parts(plan: RowPlan) -> Parts:
    try:
        import reasoning_gym  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as missing:
        raise ValueError(
            f"rows of {GYM_SOURCE} need {missing.name}; write: pip install 'qtarget[train,reasoning-gym]'"
        ) from missing
    total = sum(getattr(plan, part) for part in ROW_PARTS)
    of_task = -(-total // len(plan.tasks))
    found: dict[str, RealRow] = {}
    for name, settings in plan.tasks.items():
        data = reasoning_gym.create_dataset(name, seed=plan.seed, size=20 * of_task, **settings)
        rows = {row["question"]: RealRow(row["question"], row["answer"], row["answer"]) for row in data}
        if len(rows) < of_task:
            raise ValueError(
                f"reasoning-gym's {name} has {len(rows)} questions under {settings}, and {of_task} are needed."
            )
        found |= dict(list(rows.items())[:of_task])
    rows = list(found.values())
    random.Random(plan.seed).shuffle(rows)
    return _cut(rows, plan, ROW_PARTS)


def _sum_parts(plan: RowPlan) -> Parts:
    """Sums of two numbers below 100, for which nothing has to be installed."""
    pairs = random.Random(plan.seed).sample(range(100 * 100), sum(getattr(plan, part) for part in ROW_PARTS))
    rows = [RealRow(f"What is {pair // 100} + {pair % 100}?", *[str(pair // 100 + pair % 100)] * 2) for pair in pairs]
    return _cut(rows, plan, ROW_PARTS)


def _cut(rows: Sequence[RealRow], plan: RowPlan, names: Iterable[str]) -> Parts:
    parts, begin = {}, 0
    for name in names:
        parts[name] = list(rows[begin : begin + getattr(plan, name)])
        begin += getattr(plan, name)
    return parts


def _data_set_parts(plan: RowPlan, folder: Path | None) -> Parts:
    """Parts of a data set: the test's are of its test split, all others of its training split."""
    splits = {name: _split(plan.source, name, folder) for name in ("train", "test")}
    needed = {"train": plan.train + plan.teacher + plan.development, "test": plan.test}
    for name, rows in splits.items():
        if len(rows) < needed[name]:
            raise ValueError(f"{folder or plan.source}, {name}: {len(rows)} rows, and {needed[name]} are needed.")
        random.Random(plan.seed).shuffle(rows)
    parts = _cut(splits["train"], plan, ("train", "teacher", "development"))
    return {**parts, "test": splits["test"][: plan.test]}


def _split(source: str, name: str, folder: Path | None) -> list[RealRow]:
    if folder is not None:
        if not (folder / f"{name}.jsonl").is_file():
            raise ValueError(f"{folder} has no {name}.jsonl; --rows names a folder of train.jsonl and test.jsonl.")
        rows: Iterable[Any] = read_json(folder / f"{name}.jsonl")
    else:
        from datasets import load_dataset

        rows = cast(Iterable[Any], load_dataset(source, "main", split=name))
    return [gsm8k_row(row) for row in rows]


def gsm8k_row(row: Mapping[str, Any]) -> RealRow:
    r"""The row of the study for a row of GSM8K: without notes for a calculator, and with the last line, `#### 5`, as a
    sentence with the answer in a box.

    Raises:
        ValueError: it is no row of GSM8K's.
    """
    text, mark, gold = str(row.get("answer", "")).rpartition("####")
    if not mark or not isinstance(row.get("question"), str):
        raise ValueError(
            f"a row is none of GSM8K's, with `question` and an `answer` that ends in ####: {str(row)[:80]}"
        )
    gold = gold.strip().replace(",", "")
    said = f"{ANNOTATION.sub('', text).strip()}\nThe final answer is $\\boxed{{{gold}}}$."
    return RealRow(row["question"].strip(), said, gold)


_MAKERS: dict[str, Callable[[RowPlan], Parts]] = {GYM_SOURCE: _gym_parts, OWN_SUMS: _sum_parts}


def write_parts(parts: Parts, folder: Path, prompt: str) -> None:
    """The files that commands read: rows to train on, questions to ask, and reference text of the test questions.

    Raises:
        ValueError: a prompt that no reference text can be written for.
    """
    if prompt not in ASKED_AS:
        raise ValueError(f"`prompt: {prompt}` is not known to this study; write one of {', '.join(ASKED_AS)}.")
    for name in ("train", "teacher"):
        _write_lines(folder / f"{name}.jsonl", [{"question": r.question, "answer": r.answer} for r in parts[name]])
    for name in ("development", "test"):
        _write_lines(folder / f"{name}.jsonl", [{"question": r.question, "answer": r.gold} for r in parts[name]])
    _write_lines(folder / "reference.jsonl", [{"messages": _turns(row, prompt)} for row in parts["test"]])


def _turns(row: RealRow, prompt: str) -> list[dict[str, str]]:
    asked = ASKED_AS[prompt].replace("{question}", row.question)
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": row.answer}]


def _write_lines(path: Path, rows: Iterable[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def parts_digest(parts: Parts) -> str:
    """sha256 of all rows: rows that are made anew are the same where it is the same."""
    return json_digest({name: [vars(row) for row in rows] for name, rows in parts.items()})
