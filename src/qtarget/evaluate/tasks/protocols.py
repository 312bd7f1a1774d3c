"""Protocols beside the tasks' own: how reasoning models are asked."""

from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches

from qtarget.evaluate.nouns import SamplingProtocol

THINKING_TOKENS = 32768
OF_ONE_TEMPLATE = ("qwen-boxed", "llama-boxed")
"""Prompts in the words of one template; a model that thinks was trained on its own."""


def thinking(ask: SamplingProtocol) -> SamplingProtocol:
    """A long budget and the sampling of reasoning models' cards: temperature 0.6, top_p 0.95, 32,768 tokens, as
    DeepSeek-R1 (arXiv 2501.12948) and Qwen3 (arXiv 2505.09388) are evaluated, in the model's own chat template."""
    prompt = "auto-boxed" if ask.prompt in OF_ONE_TEMPLATE else ask.prompt
    return replace(ask, prompt=prompt, temperature=0.6, top_p=0.95, max_new_tokens=THINKING_TOKENS)


PROTOCOLS: dict[str, Callable[[SamplingProtocol], SamplingProtocol]] = {"task": lambda ask: ask, "thinking": thinking}
"""What a protocol of that name makes of a task's own. Samples of a question are always the task's."""


def under_protocol(name: str, ask: SamplingProtocol) -> SamplingProtocol:
    """The protocol of that name for a task.

    Raises:
        ValueError: an unknown name.
    """
    if name not in PROTOCOLS:
        near = get_close_matches(name, PROTOCOLS, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"Unknown protocol {name!r}. {hint}Write --protocol {' or '.join(PROTOCOLS)}.")
    return PROTOCOLS[name](ask)
