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


END_MARKER = re.compile(
    r"</s>|<pad>|<eos>|<end_of_turn>|<end_of_utterance>|\[EOS\]"
    r"|<[|｜](?:im_end|eot_id|eom_id|eot|eos|end|return|call|endoftext|end_of_text|end_of_turn_token|end_of_turn"
    r"|end_of_response|end[▁_]of[▁_]sentence|role_end|user|im_sep(?=[|｜]>\s*+\Z))[|｜]>",
    re.IGNORECASE,
)
"""The signs by which models end a text or a turn, as generators that keep them leave them."""


def before_end(text: str) -> str:
    """A text up to the first sign of its end, if it has any: what stands behind is no answer."""
    for marker in END_MARKER.finditer(text):
        if marker[0] != "</s>" or not _is_struck(text, marker.start()):
            return text[: marker.start()].rstrip()
    return text


def _is_struck(text: str, end: int) -> bool:
    """Whether ``</s>`` closes a ``<s>`` of HTML. At the beginning of a text, that is the sign of its beginning."""
    return text.rfind("<s>", 0, end) > len(text) - len(text.lstrip())


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
    return None if thinks else before_end("\n".join([*kept, completion[end:]]))
