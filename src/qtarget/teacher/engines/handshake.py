"""What is found out about an inference engine's server before the first row, on two short prompts.

What goes wrong between such a server and a training, and where it shows:

    a second beginning, a shift     what it says it has read, and whether each place speaks of the token standing there
    logits, for log-probabilities   numbers above 0, or more mass than 1
    tokens struck out (top-k, …)    −inf among the likeliest
    a temperature, a penalty        other numbers when it is asked to sample in another way
    another tokenizer               the map of the model that it names, where that can be read here; and what it takes
                                    the tokens for that its answers hold
    a cap                           a refusal, before anything is written
    another model, later            its answer to the first prompt, which goes with every question

A temperature that does not depend on the request shows nowhere: it makes another distribution. For it there is
`qtarget teacher verify CACHE --against MODEL`.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from huggingface_hub import HfApi, try_to_load_from_cache
from transformers import PreTrainedTokenizerBase

from qtarget.models.loading import tokenizer_of
from qtarget.models.same_tokens import check_same_map, number_of_tokens
from qtarget.teacher.distributions import SAME_MODEL, Keep
from qtarget.teacher.documents import Document
from qtarget.teacher.engines.dialect import DISTORTED, NEUTRAL, ScoredPrompt, ServerFacts
from qtarget.teacher.engines.engine_server import EngineServer
from qtarget.teacher.engines.scored_tokens import kept_of_prompt
from qtarget.teacher.padding import NOTICED, PROBE, REFUSED

HANDSHAKE_TOKENS = 16
HUB_S = 5.0
"""Seconds for the hub to say whether it has a model."""
OTHER_TEXTS = 0.05
"""Share of tokens that a server may take for other texts: two libraries do not write every one alike."""
_UNWRITABLE = "\N{REPLACEMENT CHARACTER}"
_LOG = logging.getLogger(__name__)


class Handshake(NamedTuple):
    """What is known of a server.

    Attributes:
        facts: what it says about itself.
        vocab: ids below this are tokens.
        probe: the prompt that goes with every question, and `logprobs`, what the server says of its tokens.
    """

    facts: ServerFacts
    vocab: int
    probe: Document
    logprobs: np.ndarray

    def check_same_model(self, prompt: ScoredPrompt) -> None:
        """Refuse an answer about the probe that is of another model than at the start; ValueError says by how much."""
        apart = np.abs(_labels(prompt, self.probe, self.vocab) - self.logprobs).mean()
        if not apart <= SAME_MODEL:
            raise ValueError(
                f"its answer to a prompt of {len(self.probe.ids)} tokens is {apart:.2g} nats from the one at the start "
                "in the mean, so another model is there now; one run has one teacher. Serve "
                f"{self.facts.weights} there again"
            )


def shake_hands(server: EngineServer, k: int, tokenizer: PreTrainedTokenizerBase, wanted: str) -> Handshake:
    """Ask a server who it is, and two prompts in two ways.

    Args:
        k: likeliest tokens that it will be asked for.
        tokenizer: the student's.
        wanted: the model's name there; empty for the only one.

    Raises:
        TeacherUnavailableError: nothing answers there.
        ValueError: what was found, with the line that starts a server which will do.
    """
    facts, vocab = server.facts(wanted), number_of_tokens(tokenizer.get_vocab())
    _check_map(server, facts, tokenizer)
    probes = _probes(tokenizer, vocab)
    prompts = [probe.ids.tolist() for probe in probes]
    asked = min(k, vocab)
    plainly = server.score(facts, prompts, asked, NEUTRAL)
    try:
        for prompt in plainly:
            _check_mass(prompt)
        logprobs = [_labels(prompt, probe, vocab) for prompt, probe in zip(plainly, probes, strict=True)]
        for prompt, probe in zip(plainly, probes, strict=True):
            kept_of_prompt(prompt, probe, Keep(asked), vocab)
            _check_rows_without_token(server, prompt, vocab)
        _check_texts(plainly, tokenizer, vocab)
        # Of two tokens at each place the one that stands there is found out of step at once; of all it never is.
        distorted = server.score(facts, prompts, min(asked, 1), DISTORTED)
        for prompt, probe, before in zip(distorted, probes, logprobs, strict=True):
            apart = np.abs(_labels(prompt, probe, vocab) - before).mean()
            if not apart <= SAME_MODEL:
                raise ValueError(
                    "asked to sample at temperature 0.5 it gives other log-probabilities of the same prompt "
                    f"({apart:.2g} nats in the mean), so they are processed ones, and not the model's own"
                )
    except ValueError as error:
        raise server.nonsense(str(error), facts, asked) from error
    return Handshake(facts, vocab, probes[0], logprobs[0])


def _probes(tokenizer: PreTrainedTokenizerBase, vocab: int) -> list[Document]:
    """A line of text, and tokens from all over the vocabulary, each once; special ones are left out."""
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    plain = [token for token in range(vocab) if token not in special] or list(range(vocab))
    spread = [plain[i] for i in sorted(set(np.linspace(0, len(plain) - 1, HANDSHAKE_TOKENS).astype(int).tolist()))]
    text = list(tokenizer(PROBE, add_special_tokens=False)["input_ids"])[: 2 * HANDSHAKE_TOKENS]
    rows = [text, spread] if len(set(text)) > 2 else [spread, [*spread[::-1]]]
    return [Document.of(row, row) for row in rows]


def _labels(prompt: ScoredPrompt, probe: Document, vocab: int) -> np.ndarray:
    return kept_of_prompt(prompt, probe, Keep(0), vocab).label_logprobs.double().numpy()


def _check_mass(prompt: ScoredPrompt) -> None:
    for scores in prompt.scores:
        mass = sum(np.exp(list(scores.values()))) if scores else 0.0
        if mass > 1.001:
            raise ValueError(
                f"{len(scores or ())} tokens at one place have mass {mass:.4g}, more than 1: these are logits and no "
                "log-probabilities"
            )


def _check_rows_without_token(server: EngineServer, prompt: ScoredPrompt, vocab: int) -> None:
    masses = [sum(np.exp(v) for token, v in scores.items() if token >= vocab) for scores in prompt.scores if scores]
    mass = float(np.mean(masses))
    if mass > REFUSED:
        raise ValueError(
            f"{mass:.0%} of the mass is on ids from {vocab} on, which stand for no token of the student's: it does not "
            "belong to this tokenizer"
        )
    if mass > NOTICED:
        _LOG.warning(
            "The %s puts %.1f %% of its mass on ids from %d on, which stand for no token. That mass is left out, and "
            "the rest renormalised.", server.name, 100 * mass, vocab,
        )  # fmt: skip


def _check_map(server: EngineServer, facts: ServerFacts, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a model of another map from tokens to ids, where the name that the server gives can be read here."""
    theirs = _tokenizer_here(facts.source) if facts.source else None
    if theirs is not None:
        check_same_map(tokenizer.get_vocab(), theirs.get_vocab(), server.name)
    else:
        _LOG.warning(
            "The tokenizer of %s cannot be read here, so the %s was held to the student's by the tokens of two prompts "
            "and of what is likely there.", facts.source or "its model", server.name,
        )  # fmt: skip


def _tokenizer_here(source: str) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a model that a server names: of a folder here, or of the hub, which is asked once for it."""
    try:
        is_here = Path(source).is_dir() or isinstance(try_to_load_from_cache(source, "tokenizer_config.json"), str)
        if not is_here:
            HfApi().model_info(source, timeout=HUB_S)
        return tokenizer_of(source)
    except Exception as error:  # whatever the libraries of tokenizers and of the hub may raise
        _LOG.info("the tokenizer of %s cannot be read here (%s)", source, error)
        return None


def _check_texts(prompts: list[ScoredPrompt], tokenizer: PreTrainedTokenizerBase, vocab: int) -> None:
    """Refuse a server that takes tokens for other texts than the student."""
    texts: Mapping[int, str] = {t: text for prompt in prompts for t, text in prompt.texts.items() if t < vocab}
    compared = {
        token: (str(tokenizer.decode([token])), text)
        for token, text in texts.items()
        if _UNWRITABLE not in text and not text.startswith("token_id:")
    }
    other = {
        token: pair
        for token, pair in compared.items()
        if pair[0].strip() != pair[1].strip() and _UNWRITABLE not in pair[0]
    }
    if len(other) > OTHER_TEXTS * len(compared):
        shown = ", ".join(f"{token}: {ours!r} and {theirs!r}" for token, (ours, theirs) in sorted(other.items())[:3])
        raise ValueError(
            f"it has another tokenizer than the student: of {len(compared)} tokens {len(other)} are other texts, first "
            f"{shown} (student's and teacher's); a target over the student's vocabulary needs the same ids in both"
        )
