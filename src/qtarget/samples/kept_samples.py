"""Which samples become rows, what these weigh, and the mark that says who wrote them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from qtarget.evaluate.nouns import Answers, Record
from qtarget.job.config.sample_options import SampleKeep, SampleWeights
from qtarget.job.rows.own_samples import SAMPLED
from qtarget.samples.prepare_sampling import PreparedSampling
from qtarget.samples.sampled_prompts import SampledPrompt

WEIGHT_DIGITS = 6
WEIGHS_NOTHING = "of a prompt that weighs nothing"


@dataclass(frozen=True)
class SampleSummary:
    """What a sampling came to.

    Attributes:
        prompts, samples: how many were asked and drawn.
        right: samples that are right; None where nothing is graded.
        unknown: samples whose grade is not known.
        cut_off: samples that did not end by themselves, which are never kept: a row of one would teach to stop there.
        rows: samples that were kept.
        none_right, all_right: prompts of which no sample is right, or all are; None where nothing is graded.
        tokens: mean number of tokens of a sample.
        left_out: samples that were not kept, by reason.
        keep, weights: as the options have them.
        writer: the model that wrote the samples.
        protocol: how it was asked.
        rows_sha256: of the file of rows.
    """

    prompts: int
    samples: int
    right: int | None
    unknown: int
    cut_off: int
    rows: int
    none_right: int | None
    all_right: int | None
    tokens: float
    left_out: Mapping[str, int]
    keep: SampleKeep
    weights: SampleWeights
    writer: str
    protocol: Mapping[str, Any] = field(default_factory=dict)
    rows_sha256: str = ""

    def as_json(self) -> dict[str, Any]:
        """The content of `sample.json`."""
        return asdict(self)


@dataclass(frozen=True)
class _PromptSamples:
    """One prompt's samples, those that are kept, and why others are not."""

    prompt: SampledPrompt
    records: Sequence[Record]
    kept: Sequence[Record]
    left_out: Counter[str]

    @property
    def pass_rate(self) -> float:
        """The share of its samples that are right."""
        return fmean(record.grade == 1 for record in self.records)


def kept_rows(prepared: PreparedSampling, answers: Answers) -> tuple[list[dict[str, Any]], SampleSummary]:
    """The rows of the samples that are kept, in the order of prompts and samples, and what all of them came to.

    Raises:
        ValueError: no sample is kept.
    """
    options = prepared.job.sampling
    each = [_sorted_out(*pair, options.kept) for pair in zip(prepared.prompts, answers.records, strict=True)]
    weights = _weights(each, options.weights)
    rows = [
        _row(prepared, one, record, weight)
        for one, weight in zip(each, weights, strict=True)
        if weight > 0
        for record in one.kept
    ]
    summary = _summary(prepared, answers, each, len(rows))
    if not rows:
        raise ValueError(_nothing_kept(summary))
    return rows, summary


def _sorted_out(prompt: SampledPrompt, records: Sequence[Record], keep: SampleKeep) -> _PromptSamples:
    """What of a prompt's samples is kept.

    All: every sample that ended by itself, equal ones too, as they are draws from the writer. Right: distinct right
    ones, as rejection-sampling fine-tuning takes them (arXiv 2308.01825). Best: the shortest right one (shortest
    rejection sampling, arXiv 2501.12599).
    """
    left_out, good = Counter[str](), list[Record]()
    for record in records:
        if record.finish_reason != "stop":
            left_out["cut off"] += 1
        elif not record.completion.strip():
            left_out["empty"] += 1
        elif keep != "all" and record.grade != 1:
            left_out["not right" if record.grade == 0 else "grade not known"] += 1
        elif keep != "all" and any(record.completion == other.completion for other in good):
            left_out["said before"] += 1
        else:
            good.append(record)
    if keep == "best" and len(good) > 1:
        left_out["longer than another right one"] += len(good) - 1
        good = [min(good, key=lambda record: (record.n_tokens, record.sample_i))]
    return _PromptSamples(prompt, records, good, left_out)


def _weights(each: Sequence[_PromptSamples], kind: SampleWeights) -> list[float]:
    """The weight of the rows of each prompt, 1 on average over the rows.

    "paced" is pass·(1 − pass), as PACED weighs a problem (arXiv 2603.11178): 0 for one that is always right.
    """
    if kind == "equal":
        return [1.0] * len(each)
    bare = [
        (1 / len(one.kept) if one.kept else 0.0) if kind == "per-prompt" else one.pass_rate * (1 - one.pass_rate)
        for one in each
    ]
    rows = sum(len(one.kept) for one, weight in zip(each, bare, strict=True) if weight > 0)
    total = sum(weight * len(one.kept) for one, weight in zip(each, bare, strict=True))
    return [round(weight * rows / total, WEIGHT_DIGITS) if total else 0.0 for weight in bare]


def _row(prepared: PreparedSampling, one: _PromptSamples, record: Record, weight: float) -> dict[str, Any]:
    """A row to train on: the prompt as it came, what the writer said, and the mark."""
    prompt = one.prompt
    text = _joined(prepared, prompt, record)
    is_chat = not isinstance(prompt.prompt, str)
    row = {
        "prompt": prompt.prompt,
        "completion": [{"role": "assistant", "content": text}] if is_chat else text,
        **prompt.carried,
    }
    if prepared.job.sampling.weights != "equal":
        spans = [[0, len(text), weight]]
        row["weight_spans"] = [spans] if is_chat else spans
    return {**row, SAMPLED: _mark(prepared, one, record)}


def _joined(prepared: PreparedSampling, prompt: SampledPrompt, record: Record) -> str:
    """The completion as it follows a prompt of text, with the space that some tokenizers drop when they decode: without
    it the words would be other tokens behind the prompt."""
    if not prepared.joins_texts or not isinstance(prompt.prompt, str):
        return record.completion
    tokens = len(prompt.ids) + record.n_tokens - 1  # without the end token
    for text in (record.completion, f" {record.completion}"):
        ids = prepared.tokenizer(prompt.prompt + text)["input_ids"]
        if len(ids) == tokens and tuple(ids[: len(prompt.ids)]) == prompt.ids:
            return text
    return record.completion


def _mark(prepared: PreparedSampling, one: _PromptSamples, record: Record) -> dict[str, Any]:
    """Who wrote a row, and how."""
    weights, ask = prepared.evaluation.facts["model"].get("weights"), prepared.run.ask
    graded = {"grade": record.grade, "pass_rate": one.pass_rate} if prepared.is_graded else {}
    return {
        "model": prepared.writer,
        "weights": weights,
        "kept": prepared.job.sampling.kept,
        "prompt": record.qid,
        "sample": record.sample_i,
        "seed": record.seed,
        "temperature": ask.temperature,
        "top_p": ask.top_p,
        **graded,
    }


def _summary(prepared: PreparedSampling, answers: Answers, each: Sequence[_PromptSamples], rows: int) -> SampleSummary:
    every = [record for one in each for record in one.records]
    graded, left_out = prepared.is_graded, sum((one.left_out for one in each), Counter[str]())
    kept = sum(len(one.kept) for one in each)
    if kept > rows:
        left_out[WEIGHS_NOTHING] += kept - rows
    return SampleSummary(
        prompts=len(each),
        samples=len(every),
        right=sum(record.grade == 1 for record in every) if graded else None,
        unknown=sum(record.grade is None for record in every) if graded else 0,
        cut_off=sum(record.finish_reason != "stop" for record in every),
        rows=rows,
        none_right=_with_pass_rate(0, each) if graded else None,
        all_right=_with_pass_rate(1, each) if graded else None,
        tokens=fmean(record.n_tokens for record in every),
        left_out=dict(left_out),
        keep=prepared.job.sampling.kept,
        weights=prepared.job.sampling.weights,
        writer=prepared.writer,
        protocol=asdict(answers.ask),
    )


def _with_pass_rate(pass_rate: float, each: Sequence[_PromptSamples]) -> int:
    return sum(one.pass_rate == pass_rate for one in each)


def _nothing_kept(summary: SampleSummary) -> str:
    why = ", ".join(f"{count:,} {reason}" for reason, count in summary.left_out.items())
    return (
        f"no sample is kept, so there is nothing to train on: of {summary.samples:,} samples of "
        f"{summary.prompts:,} prompts {why}. {remedy_for(summary)}"
    )


def remedy_for(summary: SampleSummary) -> str:
    """What to write where no sample is kept, by what most were left out for."""
    tokens = summary.protocol.get("max_new_tokens", 1024)
    if summary.cut_off > summary.samples / 2:
        return (
            f"Let samples be longer: `sample: {{max_new_tokens: {2 * tokens}}}`, or use a model that ends its answers."
        )
    if WEIGHS_NOTHING in summary.left_out:
        return (
            "Under `weights: paced` a prompt counts only where some of its samples are right and some are not; write "
            "`weights: equal`."
        )
    return "Draw more of each (`sample: {k: 16}`), give easier prompts or a better writer, or keep all (`keep: all`)."
