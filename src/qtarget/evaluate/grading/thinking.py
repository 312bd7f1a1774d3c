"""Telling what a model thought, between tags such as ``<think>`` and ``</think>``, from what it then said."""

import re

TAG_NAMES = (
    r"(?:think|thinking|thoughts?|reason|reasoning|reflection|analysis|scratchpad|inner_(?:monologue|thoughts?)"
    r"|seed:think)"
)
THINKING_TAG = re.compile(
    rf"(?P<opens><\s?{TAG_NAMES}\s?>|<\|start_thinking\|>|<\|begin_of_thought\|>|\[THINK\]|◁think▷|<unused94>"
    r"|<\|channel\|>analysis<\|message\|>)"
    rf"|(?:<\s?/\s?{TAG_NAMES}\s?>|<\|end_thinking\|>|<\|end_of_thought\|>|\[/THINK\]|◁/think▷|<unused95>"
    r"|<\|channel\|>final<\|message\|>)",
    re.IGNORECASE,
)
"""The tags of DeepSeek-R1, Qwen3 and their kin, of Magistral, Kimi, Seed, OpenThinker, MedGemma, Command, gpt-oss."""


def said(completion: str) -> str | None:
    """A completion without its thinking; None where it ends before the thinking does.

    Many chat templates open the thinking in the prompt: before a tag that closes what nothing opened, all is thinking.
    """
    kept: list[str] = []
    end, thinks = 0, False
    for tag in THINKING_TAG.finditer(completion):
        if tag["opens"]:
            kept += [] if thinks else [completion[end : tag.start()]]
        elif not thinks:
            kept.clear()
        thinks, end = bool(tag["opens"]), tag.end()
    return None if thinks else "\n".join([*kept, completion[end:]])
