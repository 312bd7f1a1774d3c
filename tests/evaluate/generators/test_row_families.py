"""Families whose rows may be padded, or leave and enter a batch: a tiny model says the same in a batch as alone.

Rows that are refilled are held to the model's own logits of a whole row, without padding, cache or neighbours; others
to what `generate` draws of a prompt alone, since in some families the two differ.
"""

import random

import pytest
import torch
from models.families import VOCAB, tiny
from transformers import PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from qtarget.evaluate.generators import drawing, sampled_rows
from qtarget.evaluate.generators.row_cache import batching_of
from qtarget.evaluate.generators.row_families import PADDED, REFILLED
from qtarget.evaluate.generators.sampled_rows import GumbelNoise
from qtarget.evaluate.nouns import SamplingProtocol

PROMPT_TOKENS, POSITIONS = (9, 8, 3), 11
ASK = SamplingProtocol("plain", k=1, max_new_tokens=3)
LIMITS = [2, 3, 3]
"""Tokens that a model of so few positions draws behind each prompt: two rows begin, the first leaves and the third
enters, the second leaves and the third goes on alone."""
ATOL_OF_SPREAD = 1e-4
"""A logit may differ by so much of the standard deviation of its row: rounding of float32."""


class Tokenizer:
    pad_token_id, eos_token_id = 0, 2


class EndlessTokenizer:
    pad_token_id, eos_token_id = 0, None


@pytest.fixture
def seen(monkeypatch):
    """The logits of each row and token that is drawn, by the row's place and the number of tokens before it."""
    logits = {}
    monkeypatch.setattr(drawing, "positions_of_model", lambda model: POSITIONS)

    class Noise(GumbelNoise):
        def __call__(self, input_ids, scores):
            for row, row_logits in zip(self.rows, scores, strict=True):
                if not row.has_ended:
                    logits[row.place, row.drawn] = row_logits.clone()
            return super().__call__(input_ids, scores)

    monkeypatch.setattr(sampled_rows, "GumbelNoise", Noise)
    return logits


def prompts():
    rng = random.Random(0)
    return [[rng.randrange(3, VOCAB) for _ in range(tokens)] for tokens in PROMPT_TOKENS]


def drawn_by(model, batch_size):
    model.generation_config.eos_token_id = None
    drawn = drawing.draw(model, EndlessTokenizer(), prompts(), range(3), ASK, batch_size=batch_size)
    assert [len(new) for new in drawn] == LIMITS
    return drawn


def check_said_alone(model, seen):
    drawn = drawn_by(model, batch_size=2)
    for place, (prompt, new) in enumerate(zip(prompts(), drawn, strict=True)):
        with torch.no_grad():
            alone = model(torch.tensor([prompt + new[:-1]]), use_cache=False).logits[0, len(prompt) - 1 :].float()
        found = torch.stack([seen.pop((place, token)) for token in range(len(new))])
        torch.testing.assert_close(found, alone, rtol=0, atol=ATOL_OF_SPREAD * float(alone.std()))
    assert not seen


def check_drawn_alone(model, seen):
    texts, logits = drawn_by(model, batch_size=3), dict(seen)
    seen.clear()
    assert texts == drawn_by(model, batch_size=1)
    for where, alone in seen.items():
        torch.testing.assert_close(logits[where], alone, rtol=0, atol=ATOL_OF_SPREAD * float(alone.std()))


def of(families):
    return sorted(families & set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))


@pytest.mark.parametrize("family", of(REFILLED))
def test_rows_that_leave_and_enter_a_batch_change_nothing(family, seen):
    model = tiny(family)
    assert batching_of(model) == "refilled"
    check_said_alone(model, seen)


@pytest.mark.parametrize("family", of(PADDED))
def test_padding_changes_nothing(family, seen):
    model = tiny(family)
    assert batching_of(model) == "padded"
    check_drawn_alone(model, seen)


@pytest.mark.parametrize("family", ["doge", "rwkv", "xlnet", "bert-generation", "moshi", "zamba2"])
def test_a_family_that_looks_at_its_neighbours_is_given_none(family, seen):
    """Their prompts stand beside such of their own length alone. Padded, the first three would say something else; the
    others, when the rest of a batch is read anew after a shorter row has ended."""
    model = tiny(family)
    assert batching_of(model) == "alike"
    check_drawn_alone(model, seen)


def test_code_of_a_models_own_is_not_believed_by_its_name():
    class Qwen2ForCausalLM:
        config = PretrainedConfig()

    Qwen2ForCausalLM.config.model_type = "qwen2"
    assert batching_of(Qwen2ForCausalLM()) == "alike"  # type: ignore[arg-type]
