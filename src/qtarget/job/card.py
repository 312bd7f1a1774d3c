"""The model card, `README.md` beside a trained model: made from the facts of its run and the figures logged so far."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from qtarget.console import printable
from qtarget.job.config.secrets_given import HELD_BACK
from qtarget.job.facts import DataFacts, Facts
from qtarget.job.method_pages import MethodEntry, method_entry
from qtarget.job.training_picture import PICTURE
from qtarget.target.hyperparameter_words import setting_words
from qtarget.train.resumption.run_history import RunPart, history_sentences, later_sentences

_REPEATS = "`train.yaml` beside this card repeats the run: `{}qtarget train train.yaml --output-dir again`."
_RESUMED = "This is the configuration of the last steps. It does not lead to these weights by itself: see History."
_NOT_TAKEN = "This is the configuration under which the result was written. No step was run with it: see History."
LEFT_OUT = (*HELD_BACK, "resume_from_checkpoint", "resume_changed", "resume_unsealed")
"""Keys that a run's own `train.yaml` is without: a secret, and how this very run went on."""
_CODE = re.compile(r"(^(?:`{3,})[^`\n]*\n(?:.*\n)*?`{3,}$|(?<!`)(?:`[^`\n]+`|``[^\n]+?``)(?!`))", re.MULTILINE)
"""Blocks of code, and code within a line."""
_LEGEND = (
    "`p` is the student, `p_y` its probability of the observed token `y`, `d` the one-hot label, `r` the "
    "reference, `t` the teacher. At every supervised token the gradient is `s·(p − Q)` with "
    "`Q = γ·d + (1 − γ)·π̃` held constant."
)


class BestWeights(NamedTuple):
    """Weights of the best checkpoint. run_steps: how many steps the run took; metric: by which it was the best."""

    run_steps: int
    metric: str


def model_card(
    facts: Facts,
    metrics: Mapping[str, Mapping[str, float]],
    steps: int,
    history: Sequence[RunPart] = (),
    folder: Path | None = None,
    best: BestWeights | None = None,
) -> str:
    """The card as Markdown.

    Args:
        metrics: "train" or "eval", name, value, as `JobTrainer.measures` gives them.
        steps: optimizer steps that the weights are of.
        history: which steps of the run were run as what.
        folder: where the card stands, the output directory or a checkpoint in it.
        best: where the weights are those of the best checkpoint.
    """
    method, folder = method_entry(facts.job.method), folder or facts.job.output
    changed = [*history_sentences(history, steps), *(later_sentences(history, steps) if best else ())]
    is_taken = not changed or history[-1].after < steps
    parts = [
        f"---\n{yaml.safe_dump(_front_matter(facts), sort_keys=False)}---\n",
        f"# {printable(facts.job.output.absolute().name)}\n",
        f"`{printable(str(facts.job.given['model']))}`, fine-tuned {_by(method.name, steps, changed, is_taken)}"
        f"{_best(steps, best)}{_skipped(metrics)} with qtarget {facts.versions['qtarget']}.\n",
        "## Objective\n",
        f"{method.summary}\n",
        _table(_objective(method, facts)),
        _LEGEND + "\n",
        *_history(changed, is_taken),
        "## Data\n",
        _table([row for data in _data(facts) for row in data]),
        "## Result\n",
        _metrics(metrics),
        *_picture(folder),
        "## Use\n",
        _usage(facts.job.output, folder),
        "## Configuration\n",
        f"{(_RESUMED if is_taken else _NOT_TAKEN) if changed else _repeats(facts, metrics)}\n",
        _fenced(configuration(facts)),
        "## Versions\n",
        ", ".join(f"{name} {number}" for name, number in facts.versions.items()) + "\n",
    ]
    return _without_tags("\n".join(parts))


def _without_tags(card: str) -> str:
    """The card with `<` written out where Markdown would take it for HTML: outside of code and of its front matter."""
    head, rest = card[: card.index("\n---\n")], card[card.index("\n---\n") :]
    parts = _CODE.split(rest)
    return head + "".join(part if place % 2 else part.replace("<", "&lt;") for place, part in enumerate(parts))


def _best(steps: int, best: BestWeights | None) -> str:
    if best is None:
        return ""
    return f" (the run took {best.run_steps}; the weights are those of step {steps}, the best by `{best.metric}`)"


def _skipped(metrics: Mapping[str, Mapping[str, float]]) -> str:
    number = _skipped_steps(metrics)
    return f" (of which {number:.0f} left out, as loss or gradient was not finite)" if number else ""


def _skipped_steps(metrics: Mapping[str, Mapping[str, float]]) -> float:
    return metrics.get("train", {}).get("skipped_steps", 0)


def configuration(facts: Facts) -> str:
    """The run's keys as YAML, as `train.yaml` holds them; secrets, and where it was resumed, are left out."""
    given = {key: value for key, value in facts.job.given.items() if key not in LEFT_OUT}
    return yaml.safe_dump(given, sort_keys=False, allow_unicode=True)


def _repeats(facts: Facts, metrics: Mapping[str, Mapping[str, float]]) -> str:
    """Whether the configuration repeats the run, and how; not where it would stop at a step that was left out."""
    args, skipped, precision = facts.job.args, _skipped_steps(metrics), facts.mixed_precision
    if skipped > (args.max_skipped_steps if args.on_nonfinite == "skip" else 0):
        left = "1 step was" if skipped == 1 else f"{skipped:.0f} steps were"
        return (
            f"This is the configuration of the last steps. It does not repeat the run: {left} left out under "
            "`on_nonfinite: skip`, and it would stop there."
        )
    return _REPEATS.format(f"ACCELERATE_MIXED_PRECISION={precision} " if precision else "")


def _by(method: str, steps: int, changed: Sequence[str], is_taken: bool) -> str:
    if not is_taken:
        return f"for {steps} optimizer steps"
    return (
        f"for {steps} optimizer steps, the last of them by **{method}**"
        if changed
        else f"by **{method}** for {steps} optimizer steps"
    )


def _history(changed: Sequence[str], is_taken: bool) -> list[str]:
    """What changed while the run was on; nothing for a run that was one all through."""
    text = "The run was resumed with changes. What stands above and below is of its last steps."
    text = text if is_taken else "No step behind these weights was run with what stands above and below."
    return ["## History\n", text + "\n", *(f"- {sentence}" for sentence in changed), ""] if changed else []


def _front_matter(facts: Facts) -> dict[str, Any]:
    job = facts.job
    base = {} if job.model.startswith("/") else {"base_model": job.model}
    library = "peft" if job.model_args.use_peft else "transformers"
    tags = list(dict.fromkeys(("qtarget", "sft", job.method.name, "trl")))
    return {"library_name": library, **base, "pipeline_tag": "text-generation", "tags": tags}


def _objective(method: MethodEntry, facts: Facts) -> list[tuple[str, str]]:
    job = facts.job
    values = ", ".join(f"{name} = {setting_words(value)}" for name, value in job.method.hyperparameters.items())
    reference = _named(job.given, "reference") or "`initial`"
    return [
        ("method", f"`{method.name}` ({method.source})"),
        ("formula", method.formula),
        ("trust γ", method.trust),
        ("residual π̃", method.residual),
        ("hyperparameters", values or "none"),
        ("teacher", _named(job.given, "teacher") or "none"),
        ("reference", reference if "reference" in job.method.needs else "none"),
        ("limits", method.limits or "none stated"),
        *([("precision", facts.precision)] if facts.mixed_precision else []),
    ]


def _named(given: Mapping[str, Any], role: str) -> str:
    """The models of a role ("teacher", "reference") as the user wrote them, and the caches read in their place."""
    parts = []
    for key, prefix in ((role, ""), (f"{role}_cache", "from the cache ")):
        names = given.get(key)
        names = names if isinstance(names, list) else [names] if names else []
        parts += [prefix + ", ".join(f"`{name}`" for name in names)] if names else []
    return ", ".join(parts)


def _data(facts: Facts) -> list[list[tuple[str, str]]]:
    named = [("training", facts.train), ("evaluation", facts.evaluation)]
    return [_data_rows(name, data) for name, data in named if data is not None]


def _data_rows(name: str, data: DataFacts) -> list[tuple[str, str]]:
    return [
        (f"{name} rows", data.counts.sentence()),
        (f"{name} data", f"`{data.source}`, columns {', '.join(f'`{printable(c)}`' for c in data.columns)}"),
        *([(f"{name} form", data.counts.form)] if data.counts.form else []),
        *[(f"{name} rows", note) for note in data.remarks],
        (f"{name} sha256", f"`{data.sha256}`" if data.sha256 else "none: a stream is not read ahead"),
    ]


def _metrics(metrics: Mapping[str, Mapping[str, float]]) -> str:
    rows = [(f"{part} {name}", f"{value:.6g}") for part, values in metrics.items() for name, value in values.items()]
    note = "`nll` is the mean negative log-likelihood of the labels in nats a token, and compares across methods.\n"
    return _table(rows) + "\n" + note if rows else "No step was taken yet.\n"


def _picture(folder: Path) -> list[str]:
    drawn = (folder / PICTURE).is_file()
    return [f"![loss, nll and trust over the steps of the run]({PICTURE})\n"] if drawn else []


def _fenced(text: str) -> str:
    """A block of YAML that nothing in it can end."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
    return f"{fence}yaml\n{text}{fence}\n"


def _usage(output: Path, folder: Path) -> str:
    name = output.absolute().name + ("" if folder == output else f"/{folder.name}")
    folder_name = printable(name)
    return (
        "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f'model = AutoModelForCausalLM.from_pretrained("{folder_name}")\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{folder_name}")\n```\n'
    )


def _table(rows: list[tuple[str, str]]) -> str:
    lines = [f"| {name} | {value.replace('|', chr(92) + '|')} |" for name, value in rows]
    return "\n".join(["| | |", "|---|---|", *lines]) + "\n"
