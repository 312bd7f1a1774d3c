"""The keys of samples: the section `sample` of a configuration, and those of rounds."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_type_hints

from pydantic import TypeAdapter, ValidationError

from qtarget.console import shortened
from qtarget.evaluate.tasks.own_task import OWN_ASK
from qtarget.job.config.ranges import sample_range_complaints
from qtarget.target.hyperparameters import suggestion

SampleKeep = Literal["right", "all", "best"]
SampleWeights = Literal["equal", "per-prompt", "paced"]
FILTERED: tuple[SampleKeep, ...] = ("right", "best")
"""Values of `keep` that need to know which samples are right."""
NOT_IN_ROUNDS = {
    "model": "the student of each round writes its own samples",
    "out": "each round has a folder of its own in `output_dir`",
    "url": "each round samples from another student, which no server has yet",
}
"""Keys of `sample` that do not go with rounds, and why."""
NOT_WITH_ROUNDS = {
    "streaming": "the samples of a round are all there before it trains",
    "push_to_hub": "rounds train several models; push the last one when it is there",
    "resume_from_checkpoint": "the same command goes on where rounds were stopped",
    "train_rows_seed": "a round trains on samples; write `sample: {limit: 100}` for fewer prompts",
    "train_rows": "a round trains on samples; write `sample: {limit: 100}` for fewer prompts",
}
"""Keys of a run that do not go with rounds, and why."""


@dataclass(frozen=True)
class SampleOptions:
    """What is sampled, and which samples become rows.

    Attributes:
        prompts: files of rows with the prompts; None for the training rows' own.
        task: a task of `qtarget eval` whose questions are the prompts, as it is asked there.
        answer: the column of the rows with the right answer; None to find it.
        grade: a grader, as `qtarget eval --grade` names it; a task has its own.
        grade_options: the grader's settings.
        keep: which samples become rows; None for "right" where there is a grader, else "all".
        weights: of the rows: "equal"; "per-prompt": each prompt counts alike; "paced": pass·(1 − pass), where pass is
            the share of a prompt's samples that are right.
        with_rows: whether a round trains on the configuration's rows too.
        model: who writes; None for the configuration's `model`.
        k, temperature, top_p, max_new_tokens: how samples are drawn; None: as the task says, or as `qtarget eval` asks
            one's own questions.
        seed: of all samples; None for the run's.
        limit: how many prompts are asked, the first ones; None for all.
        generator, url, batch_size, dtype, device: as `qtarget eval` takes them.
        out: the folder of samples and rows.
    """

    prompts: str | list[str] | None = None
    task: str | None = None
    answer: str | None = None
    grade: str | None = None
    grade_options: dict[str, Any] = field(default_factory=dict)
    keep: SampleKeep | None = None
    weights: SampleWeights = "equal"
    with_rows: bool = False
    model: str | None = None
    k: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_new_tokens: int | None = None
    seed: int | None = None
    limit: int | None = None
    generator: Literal["hf", "http", "vllm"] = "hf"
    url: str | None = None
    batch_size: int | None = None
    dtype: str = "auto"
    device: str = "auto"
    out: str = "runs/sample"

    @property
    def is_graded(self) -> bool:
        """Whether something says which samples are right."""
        return self.task is not None or self.grade is not None

    @property
    def kept(self) -> SampleKeep:
        """Which samples become rows."""
        return self.keep or ("right" if self.is_graded else "all")


@dataclass(frozen=True)
class RoundOptions:
    """Rounds of sampling and training.

    Attributes:
        number: how many rounds there are.
        start: what the student of a round begins as: "base", the configuration's model, or "last", the last round's
            student.
        launch: the words that start each training, such as `accelerate launch`; () for this Python.
    """

    number: int
    start: Literal["base", "last"] = "base"
    launch: tuple[str, ...] = ()


def sample_complaints(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with names and values within `sample`, a sentence each."""
    given = values.get("sample")
    if not isinstance(given, Mapping):
        return
    out_of_range = dict(sample_range_complaints(given))
    hints = get_type_hints(SampleOptions)
    for key, value in given.items():
        if key not in hints:
            yield "sample", f"`sample` has no key `{shortened(str(key))}`; {suggestion(str(key), [*hints])}"
        elif key in out_of_range:
            yield "sample", out_of_range[key]
        elif value in ("", []):
            yield "sample", f"`sample: {{{key}}}` is empty; give it a value, or remove it."
        elif value is not None and (why := _type_fault(value, hints[key])):
            yield "sample", f"`sample: {{{key}: {shortened(str(value))}}}` is not accepted: {why}."


def _type_fault(value: Any, hint: Any) -> str:
    """Why a value is not of a type; "" where it is."""
    try:
        TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        return " or ".join(dict.fromkeys(each["msg"] for each in error.errors()))
    return ""


def sample_options(values: Mapping[str, Any]) -> SampleOptions:
    """The options that the section gives, checked together.

    Raises:
        ValueError: keys that contradict each other, or lack one another.
    """
    given = {key: value for key, value in (values.get("sample") or {}).items() if value is not None}
    hints = get_type_hints(SampleOptions)
    options = SampleOptions(**{key: TypeAdapter(hints[key]).validate_python(value) for key, value in given.items()})
    if options.task is not None and (other := next((key for key in ("prompts", "grade") if key in given), None)):
        raise ValueError(
            f"`sample: {{task: {options.task}}}` has its own questions and its own grader, and `{other}` is given too; "
            "keep one of the two."
        )
    if not options.is_graded:
        _check_ungraded(options)
    k = options.k or (OWN_ASK.k if options.task is None else 1)  # a task has its own k, which is checked with it
    if options.temperature == 0 and k > 1:
        raise ValueError(
            f"`sample: {{temperature: 0}}` gives the same answer {k} times; write `k: 1` beside it, or a temperature "
            "above 0."
        )
    return options


def _check_ungraded(options: SampleOptions) -> None:
    """Refuse what needs to know which samples are right, where nothing does."""
    needs = f"keep: {options.keep}" if options.keep in FILTERED else ""
    needs = needs or ("weights: paced" if options.weights == "paced" else "")
    needs = needs or (f"answer: {options.answer}" if options.answer else "")
    if needs:
        raise ValueError(
            f"`sample: {{{needs}}}` is about right answers, and nothing grades them; write a grader beside it, as in "
            "`sample: {grade: number, answer: COLUMN}` (or --grade number --answer COLUMN), or `keep: all`."
        )


def round_options(values: Mapping[str, Any]) -> RoundOptions | None:
    """The rounds of a run; None where it has none."""
    if values.get("rounds") is None:
        return None
    launch = tuple(shlex.split(values.get("rounds_launch") or ""))
    return RoundOptions(values["rounds"], values.get("rounds_from") or "base", launch)


def check_rounds(values: Mapping[str, Any]) -> None:
    """Refuse keys that rounds do not take, and those of rounds without any.

    Raises:
        ValueError: names the key, and why.
    """
    if values.get("rounds") is None:
        if lone := next((key for key in ("rounds_from", "rounds_launch") if values.get(key) is not None), None):
            raise ValueError(f"`{lone}` is about rounds, and there are none; add `rounds: 2`, or remove it.")
        return
    for key, why in NOT_WITH_ROUNDS.items():
        if values.get(key):
            raise ValueError(f"`{key}` does not go with `rounds`: {why}. Remove it.")
    section = values.get("sample") or {}
    for key, why in NOT_IN_ROUNDS.items():
        if section.get(key) is not None:
            raise ValueError(f"`sample: {{{key}: …}}` does not go with `rounds`: {why}. Remove it.")
    if section.get("generator") == "http":
        raise ValueError(f"`sample: {{generator: http}}` does not go with `rounds`: {NOT_IN_ROUNDS['url']}. Remove it.")
    if values.get("teacher_cache") is not None and values.get("teacher") is None:
        raise ValueError(
            "`teacher_cache` holds what a teacher says of the rows, and each round asks it about its samples, of "
            "which it writes a cache; write `teacher: path/or/hub-name` beside it."
        )
