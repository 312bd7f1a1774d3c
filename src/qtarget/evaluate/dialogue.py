"""A conversation with a model, as `qtarget chat` holds it: its turns, their token ids, and answers as they come.

Token ids are made as evaluation makes them, by the tokenizer's chat template, and an answer ends where one of an
evaluation does. A tokenizer without a template has no turns: the model goes on with the text so far.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.generation.streamers import BaseStreamer

from qtarget.evaluate.generators.drawing import ends_of
from qtarget.evaluate.generators.huggingface import HuggingFace
from qtarget.evaluate.nouns import DRAWING_RANGES
from qtarget.evaluate.prompts import refuse_two_bos

UNFINISHED_CHARACTER = "\ufffd"
"""What a tokenizer gives for the bytes of a character of which some are still to come."""


class AnswerSettings(NamedTuple):
    """How answers are drawn.

    Attributes:
        temperature: 0 is greedy.
        top_p: samples are drawn from the likeliest tokens of this much mass.
        max_new_tokens: the most tokens of an answer.
        seed: of the first answer's draw; None for one that nobody chose.

    Raises:
        ValueError: a value outside its domain, where `check` is called.
    """

    temperature: float = 0.7
    top_p: float = 1.0
    max_new_tokens: int = 1024
    seed: int | None = None

    def check(self) -> None:
        for name in ("temperature", "top_p", "max_new_tokens"):
            value, allowed, flag = getattr(self, name), DRAWING_RANGES[name], f"--{name.replace('_', '-')}"
            if not allowed.has(value):
                raise ValueError(
                    f"{flag} {value} is out of range; write {allowed.words(value)}, as {flag} {allowed.example:g}."
                )


class ModelAnswer(NamedTuple):
    """What came of a turn.

    Attributes:
        finish: "stop" at an end token, "length" at the limit, "interrupted" by the user.
    """

    text: str
    finish: Literal["stop", "length", "interrupted"]


@dataclass
class Dialogue:
    """A conversation so far.

    Attributes:
        system: what stands before all turns; "" for nothing.
        turns: messages of the user and the assistant, by turns; of a tokenizer without a chat template unused.
        text: of such a tokenizer everything so far.
    """

    tokenizer: PreTrainedTokenizerBase
    system: str = ""
    turns: list[dict[str, str]] = field(default_factory=list)
    text: str = ""

    @property
    def has_template(self) -> bool:
        return bool(self.tokenizer.chat_template)

    def check(self) -> None:
        """Try the template on a first turn.

        Raises:
            ValueError: a system message without a template. Errors of the template itself are as jinja raises them.
        """
        if self.system and not self.has_template:
            raise ValueError(
                "--system is a message of a conversation, and this model's tokenizer has no chat template; leave it "
                "out: the model goes on with your text."
            )
        Dialogue(self.tokenizer, self.system).ask("x")

    def ask(self, line: str) -> list[int]:
        """Take the user's next turn; the token ids that the model answers."""
        if not self.has_template:
            self.text += line
            return list(self.tokenizer(self.text)["input_ids"])  # type: ignore[arg-type]
        self.turns.append({"role": "user", "content": line})
        messages = [*([{"role": "system", "content": self.system}] if self.system else []), *self.turns]
        ids: Any = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        refuse_two_bos(ids, self.tokenizer, "chat")
        return list(ids)

    def take(self, answer: ModelAnswer) -> None:
        """Take what the model said, as far as it came."""
        if self.has_template:
            self.turns.append({"role": "assistant", "content": answer.text})
        else:
            self.text += answer.text

    def take_back(self) -> None:
        """Forget the user's last turn, which was not answered."""
        if self.turns and self.turns[-1]["role"] == "user":
            self.turns.pop()

    def reset(self) -> None:
        """Begin anew."""
        self.turns.clear()
        self.text = ""


class TextStream(BaseStreamer):
    """Gives the text of an answer on as its tokens come, whole characters only.

    Args:
        show: called with each piece of text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, show: Callable[[str], None]) -> None:
        self.tokenizer, self.show = tokenizer, show
        self.ids: list[int] = []
        self.text = ""
        self._is_prompt = True

    def put(self, value: Any) -> None:
        if self._is_prompt:  # generation hands the prompt over first
            self._is_prompt = False
            return
        self.ids += value.flatten().tolist()
        text = str(self.tokenizer.decode(self.ids, skip_special_tokens=True))
        if not text.endswith(UNFINISHED_CHARACTER):
            self._give(text)

    def end(self) -> None:
        self._give(str(self.tokenizer.decode(self.ids, skip_special_tokens=True)))

    def _give(self, text: str) -> None:
        if len(text) > len(self.text):
            self.show(text[len(self.text) :])
            self.text = text


class Partner:
    """The model that answers.

    Args:
        source: the model with its tokenizer; its weights are loaded when it answers first, or at `network`.
    """

    def __init__(self, source: HuggingFace, settings: AnswerSettings) -> None:
        self.source, self.settings = source, settings
        if settings.seed is not None:
            torch.manual_seed(settings.seed)

    @property
    def network(self) -> PreTrainedModel:
        return self.source.network

    def answer(self, prompt_ids: list[int], show: Callable[[str], None]) -> ModelAnswer:
        """Draw an answer, and show it piece by piece.

        Ctrl-C ends the answer, and what came of it is kept.

        Raises:
            ValueError: the conversation leaves the model no position to answer at.
        """
        network, tokenizer = self.source.network, self.source.tokenizer
        ends, stream = ends_of(network, tokenizer), TextStream(tokenizer, show)
        config = self._config(ends, self._room(len(prompt_ids)))
        inputs = torch.tensor([prompt_ids], device=network.device)
        before, network.generation_config = network.generation_config, config
        try:
            generate: Any = network.generate
            generate(inputs, attention_mask=torch.ones_like(inputs), generation_config=config, streamer=stream)
        except KeyboardInterrupt as stopped:
            if type(stopped) is not KeyboardInterrupt:  # SIGTERM ends the command
                raise
            stream.end()
            return ModelAnswer(stream.text, "interrupted")
        finally:
            network.generation_config = before
        stopped_at_end = bool(stream.ids) and stream.ids[-1] in ends
        return ModelAnswer(stream.text, "stop" if stopped_at_end else "length")

    def _config(self, ends: list[int], room: int) -> GenerationConfig:
        settings, padding = self.settings, self.source.tokenizer.pad_token_id
        drawn = {"temperature": settings.temperature, "top_p": settings.top_p, "top_k": 0}
        return GenerationConfig(
            do_sample=settings.temperature > 0,
            max_new_tokens=room,
            eos_token_id=ends or None,
            pad_token_id=padding if padding is not None else next(iter(ends), 0),
            **(drawn if settings.temperature > 0 else {}),
        )

    def _room(self, tokens: int) -> int:
        places = getattr(self.source.network.config.get_text_config(), "max_position_embeddings", None)
        room = self.settings.max_new_tokens if places is None else min(self.settings.max_new_tokens, places - tokens)
        if room < 1:
            raise ValueError(f"the conversation has {tokens:,} tokens and the model {places:,} positions; /reset it.")
        return room
