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


END_MARKERS = re.compile(
    r"(?:</s>|<pad>|<eos>|<end_of_turn>|<end_of_utterance>|\[EOS\]"
    r"|<[|｜](?:im_end|eot_id|eom_id|eot|eos|end|return|call|endoftext|end_of_text|end_of_turn_token|end_of_turn"
    r"|end_of_response|end[▁_]of[▁_]sentence|role_end|user|im_sep)[|｜]>)\Z",
    re.IGNORECASE,
)
"""The signs by which models end a text or a turn, where one stands at the end of a text."""
LONGEST_MARKER, MARKERS = 32, 1000
"""Characters of one, and how many of them are taken off."""


def without_end_markers(text: str) -> str:
    """A text without the signs of its end that stand behind it, as generators that keep them leave, if it has any."""
    end = _before_blanks(text, len(text))
    kept = end
    for _ in range(MARKERS):
        if not (marker := END_MARKERS.search(text, max(0, kept - LONGEST_MARKER), kept)):
            break
        kept = _before_blanks(text, marker.start())
    return text if kept == end else text[:kept]


def _before_blanks(text: str, end: int) -> int:
    while end and text[end - 1].isspace():
        end -= 1
    return end


def said(completion: str) -> str | None:
    """A completion without its thinking and the signs of its end; None where it ends before the thinking does.

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
    return None if thinks else without_end_markers("\n".join([*kept, completion[end:]]))
