"""Student and teacher at the tokens of real rows: p_y, entropy, and the target that each arm makes of them."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import qtarget as qt
from qtarget.data.json_lines import read_json
from qtarget.evaluate.effects import TokenRow
from qtarget.evaluate.effects.logprobs import chunks
from qtarget.evaluate.nouns import Question
from qtarget.evaluate.prompts import PROMPTS
from qtarget.models.loading import causal_lm_from, tokenizer_of
from qtarget.study.real_models.real_protocol import RealProtocol

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
UNLIKELY = 0.1
"""Below this probability a token is one that the student does not expect."""


def look_at_tokens(student: str, teacher: str, rows: Path, prompt: str, protocol: RealProtocol) -> dict[str, Any]:
    """Measure student, teacher and every arm's target at the learned tokens of the first rows.

    Args:
        student, teacher: folders or hub names.
        rows: a file of rows with `question` and `answer`.
        prompt: a name in `evaluate.prompts`.

    Returns:
        `tokens`, their number; `student` and `teacher`: mean and quantiles of p_y and of the entropy (nats); `agree`,
        the share at which their likeliest tokens are the same; the four shares of `_unlikely`; and `arms`: by arm the
        mean trust, and total variation and KL(Q‖p) (nats) of target and student.
    """
    tokenizer: Any = tokenizer_of(student)
    asked = list(islice(read_json(rows), protocol.token_rows))
    texts = [_token_row(row["question"], row["answer"], prompt, tokenizer) for row in asked]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    models: list[Any] = [causal_lm_from(name, {"dtype": "auto"}) for name in (student, teacher)]
    seen: dict[str, list[Tensor]] = {}
    for logp_MTV, labels_T in chunks([model.to(device) for model in models], texts, batch_size=4):
        for name, values_T in _measured(logp_MTV, labels_T, protocol).items():
            seen.setdefault(name, []).append(values_T)
    return _summary({name: torch.cat(parts) for name, parts in seen.items()}, protocol)


def _token_row(question: str, answer: str, prompt: str, tokenizer: Any) -> TokenRow:
    before = PROMPTS[prompt](Question("", question, ""), tokenizer)
    learned = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    return TokenRow((*before, *learned), len(before))


def _measured(logp_MTV: Tensor, labels_T: Tensor, protocol: RealProtocol) -> dict[str, Tensor]:
    """Figures of each token, [T] by name. `logp_MTV`: the student's log-probabilities, then the teacher's."""
    prob_MTV = logp_MTV.exp()
    found = {"agree": logp_MTV[0].argmax(-1).eq(logp_MTV[1].argmax(-1)).double()}
    for place, name in enumerate(("student", "teacher")):
        found[f"{name} p_y"] = prob_MTV[place].gather(-1, labels_T[:, None])[:, 0]
        found[f"{name} entropy"] = -(prob_MTV[place] * logp_MTV[place]).sum(-1)
    for arm in protocol.arms:
        method = qt.method(arm.method, **arm.values)
        target = qt.target_distribution(
            logp_MTV[0], labels_T, method, teacher=logp_MTV[1] if arm.needs_teacher else None
        )
        moved_TV = (target.q - prob_MTV[0]).abs()
        found[f"{arm.name} trust"] = target.trust.expand(labels_T.shape).double()
        found[f"{arm.name} variation"] = moved_TV.sum(-1) / 2
        found[f"{arm.name} kl"] = (target.q * (target.q.clamp_min(1e-300).log() - logp_MTV[0])).sum(-1)
    return found


def _summary(values: dict[str, Tensor], protocol: RealProtocol) -> dict[str, Any]:
    sides = {
        side: {name: _spread(values[f"{side} {name}"]) for name in ("p_y", "entropy")}
        for side in ("student", "teacher")
    }
    arms = {
        arm.name: {name: float(values[f"{arm.name} {name}"].mean()) for name in ("trust", "variation", "kl")}
        for arm in protocol.arms
    }
    unlikely = _unlikely(values["student p_y"], values["teacher p_y"])
    return {"tokens": len(values["agree"]), "agree": float(values["agree"].mean()), **sides, **unlikely, "arms": arms}


def _spread(values_T: Tensor) -> dict[str, Any]:
    quantiles: Sequence[float] = values_T.quantile(torch.tensor(QUANTILES).to(values_T)).tolist()
    return {"mean": float(values_T.mean()), "quantiles": dict(zip(map(str, QUANTILES), quantiles, strict=True))}


def _unlikely(student_T: Tensor, teacher_T: Tensor) -> dict[str, float]:
    """Tokens that the student does not expect: their share, their share of sft's push (1 − p_y), and how many of them
    the teacher expects as little, or (above one half) a good deal more."""
    is_unlikely_T = student_T < UNLIKELY
    there_T = teacher_T[is_unlikely_T]
    few = len(there_T) or 1
    return {
        "unlikely_share": float(is_unlikely_T.double().mean()),
        "unlikely_push": float((1 - student_T)[is_unlikely_T].sum() / (1 - student_T).sum()),
        "unlikely_to_teacher": float((there_T < UNLIKELY).sum()) / few,
        "likely_to_teacher": float((there_T > 0.5).sum()) / few,
    }
