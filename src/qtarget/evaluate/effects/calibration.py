"""Calibration: whether a model is right about the next token as often as its probabilities say."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from qtarget.evaluate.effects.logprobs import TokenRow, chunks

BINS = 15


@dataclass(frozen=True)
class CalibrationBin:
    """Tokens whose top-1 probability lies in (low, high]: how many, how sure, how often right. A bar of the picture."""

    low: float
    high: float
    tokens: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """Top-1 probability against top-1 correctness, over the tokens of reference text.

    Attributes:
        ece: expected calibration error, Σ_b n_b/N·|accuracy_b − confidence_b| over equal bins.
        overconfidence: mean confidence less accuracy; its sign says which way it errs.
        nll: of the reference tokens, in nats a token.
        bins: the reliability picture; empty bins are left out.
    """

    ece: float
    overconfidence: float
    accuracy: float
    nll: float
    tokens: int
    bins: tuple[CalibrationBin, ...]


def calibration(model: PreTrainedModel, rows: Sequence[TokenRow], *, batch_size: int = 64) -> Calibration:
    """Expected calibration error of next-token probabilities on reference text (Guo et al. 2017, arXiv 1706.04599).

    Args:
        rows: reference text as token ids, from `token_row(tokenizer, prompt, completion)`.

    Raises:
        ValueError: rows without a token to predict.
    """
    confidence, is_right, nll = [], [], 0.0
    for (logp_TV,), labels_T in chunks((model,), rows, batch_size):
        top_T, token_T = logp_TV.max(-1)
        confidence.append(top_T.exp())
        is_right.append(token_T.eq(labels_T))
        nll -= float(logp_TV.gather(-1, labels_T[:, None]).sum())
    if not confidence:
        raise ValueError("The reference rows hold no token to look at; give at least one row with a completion.")
    return reliability(torch.cat(confidence), torch.cat(is_right), nll)


def reliability(confidence_T: Tensor, is_right_T: Tensor, nll: float = 0.0) -> Calibration:
    """`calibration` from the likeliest tokens' probabilities, whether each was right, and the sum of nll in nats."""
    confidence_T, is_right_T = confidence_T.double().cpu(), is_right_T.double().cpu()
    place_T = (confidence_T * BINS).ceil().long().clamp(1, BINS) - 1  # (low, high], as in Guo et al.
    bins = [_bin(place, place_T.eq(place), confidence_T, is_right_T) for place in place_T.unique().tolist()]
    count, accuracy = len(confidence_T), float(is_right_T.mean())
    return Calibration(
        ece=sum(b.tokens * abs(b.accuracy - b.confidence) for b in bins) / count,
        overconfidence=float(confidence_T.mean()) - accuracy,
        accuracy=accuracy,
        nll=nll / count,
        tokens=count,
        bins=tuple(bins),
    )


def _bin(place: int, is_in_T: Tensor, confidence_T: Tensor, is_right_T: Tensor) -> CalibrationBin:
    low, high = place / BINS, (place + 1) / BINS
    return CalibrationBin(
        low, high, int(is_in_T.sum()), float(confidence_T[is_in_T].mean()), float(is_right_T[is_in_T].mean())
    )
