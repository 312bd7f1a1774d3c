"""Servers that answer as vLLM and SGLang do, with the numbers of a real model: what they say is what transformers says.

The shape of vLLM's answers was taken from vLLM 0.32.0 (`tests/real_vllm` asks the real one), that of SGLang's from its
documentation.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from teacher.serving import answering
from transformers import AutoModelForCausalLM, AutoTokenizer

Change = Callable[[str, dict, Any], Any]
"""What becomes of an answer: gets path, question and the right answer."""


@dataclass
class Likeness:
    """A server like one of an inference engine's, over a model's folder.

    Attributes:
        kind: "vllm" or "sglang".
        cap: likeliest tokens that it gives, at most.  longest: tokens of a prompt and what follows, at most.
        change: what becomes of each answer.  statuses: given in the place of answers, one for each, before the first.
        most: questions that were under way at once, and `asked`, how many there were.
        scale: what logits are multiplied by.  leading: tokens that it puts before every prompt.
    """

    folder: Path
    kind: str = "vllm"
    cap: int = 64
    longest: int = 256
    change: Change | None = None
    statuses: list[int] = field(default_factory=list)
    named: str | None = None
    scale: float = 1.0
    heeds_temperature: bool = False
    gives_logits: bool = False
    leading: tuple[int, ...] = ()
    asked: int = 0
    most: int = 0
    _under_way: int = 0
    _lock: Any = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.load(self.folder)

    def load(self, folder: Path) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    @contextmanager
    def up(self) -> Iterator[str]:
        """Its address, with its kind, until the end of the block."""
        with answering(self._answer) as url:
            yield f"{self.kind}+{url}"

    def _answer(self, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        with self._lock:
            self._under_way += 1
            self.most = max(self.most, self._under_way)
        try:
            question = json.loads(body) if body else {}
            if question and self.statuses:
                return self.statuses.pop(0), {}, b"not now"
            status, answer = self._right(path, question)
            if status == 200 and self.change is not None:
                answer = self.change(path, question, answer)
            return status, {}, answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        finally:
            with self._lock:
                self._under_way -= 1

    def _right(self, path: str, question: dict) -> tuple[int, Any]:
        name = self.named or str(self.folder)
        answers = {
            "/health": {},
            "/version": {"version": "0.32.0"},
            "/v1/models": {
                "object": "list",
                "data": [{"id": name, "root": str(self.folder), "max_model_len": self.longest}],
            },
            "/get_model_info": {"model_path": str(self.folder), "is_generation": True},
            "/get_server_info": {"context_length": self.longest, "version": "0.5"},
        }
        own = {
            "vllm": ("/health", "/version", "/v1/models"),
            "sglang": ("/health", "/get_model_info", "/get_server_info"),
        }
        if path in own[self.kind]:
            return 200, answers[path]
        self.asked += 1
        if self.kind == "vllm" and path == "/v1/completions":
            return self._completions(question, name)
        if self.kind == "sglang" and path == "/generate":
            return 200, [self._generated(ids, question) for ids in question["input_ids"]]
        return 404, {"detail": "Not Found"}

    def _completions(self, question: dict, name: str) -> tuple[int, Any]:
        k = question.get("prompt_logprobs")
        if question["model"] != name:
            return 404, {"error": {"message": f"The model `{question['model']}` does not exist.", "code": 404}}
        if k > self.cap:
            words = f"Requested prompt logprobs of {k}, which is greater than max allowed: {self.cap}"
            return 400, {"error": {"message": f"{words} (parameter=prompt_logprobs, value={k})", "code": 400}}
        if max(map(len, question["prompt"])) + question["max_tokens"] > self.longest:
            return 400, {
                "error": {"message": f"This model's maximum context length is {self.longest} tokens", "code": 400}
            }
        choices = [self._choice(number, ids, k, question) for number, ids in enumerate(question["prompt"])]
        return 200, {"object": "text_completion", "model": name, "choices": choices, "usage": {}}

    def _choice(self, number: int, ids: list[int], k: int, question: dict) -> dict:
        read = [*self.leading, *ids]
        places = [None]
        for scores, ranks in self._scored(read, k, question):
            texts = {token: self.tokenizer.decode([token]) for token in scores}
            places.append(
                {
                    str(token): {"logprob": value, "rank": ranks[token], "decoded_token": texts[token]}
                    for token, value in scores.items()
                }
            )
        said = read if question.get("return_token_ids") else None
        return {
            "index": number, "text": "x", "logprobs": None, "finish_reason": "length", "token_ids": [5],
            "prompt_logprobs": places, "prompt_token_ids": said,
        }  # fmt: skip

    def _generated(self, ids: list[int], question: dict) -> dict:
        read = [*self.leading, *ids]
        own, likeliest = [[None, read[0], None]], [None]
        for (scores, ranks), label in zip(
            self._scored(read, question["top_logprobs_num"], question), read[1:], strict=True
        ):
            own.append([scores[label], label, self.tokenizer.decode([label])])
            best = sorted(scores, key=lambda token: ranks[token])[: question["top_logprobs_num"]]
            likeliest.append([[scores[token], token, self.tokenizer.decode([token])] for token in best])
        meta = {"prompt_tokens": len(read), "input_token_logprobs": own, "input_top_logprobs": likeliest}
        return {"text": "x", "meta_info": meta, "output_ids": [5]}

    @torch.no_grad()
    def _scored(self, ids: list[int], k: int, question: dict) -> Iterator[tuple[dict[int, float], dict[int, int]]]:
        """For each token but the first the K likeliest and its own, and the rank of each."""
        temperature = question.get("sampling_params", question)["temperature"] if self.heeds_temperature else 1.0
        with self._lock:
            logits = self.model(torch.tensor([ids])).logits[0, :-1].float() * self.scale / temperature
        scores = logits if self.gives_logits else logits.log_softmax(-1)
        for row, label in zip(scores, ids[1:], strict=True):
            order = row.argsort(descending=True).tolist()
            ranks = {token: rank for rank, token in enumerate(order, 1)}
            yield {token: float(row[token]) for token in dict.fromkeys([label, *order[:k]])}, ranks
