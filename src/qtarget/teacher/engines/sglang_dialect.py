"""SGLang: `POST /generate` with `input_ids`, `return_logprob` and `top_logprobs_num`.

An answer's `meta_info` holds, at each place of the prompt, `input_token_logprobs` [log-probability, id, text], of the
token that stands there, and `input_top_logprobs`, a list of such triples of the K likeliest; null at the first. Written
from its documentation and tried on a server that answers so: no real one was at hand.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from qtarget.teacher.engines.dialect import ScoredPrompt, ServerFacts, TokenScores, number_in, text_in, token_in

ANY_LENGTH = 1 << 30


@dataclass(frozen=True)
class SglangDialect:
    """How SGLang is talked to."""

    name: str = "SGLang"
    path: str = "/generate"

    def facts(self, get: Callable[[str], Any], wanted: str) -> ServerFacts:
        model = get("/get_model_info") or get("/model_info")
        server = get("/get_server_info") or get("/server_info")
        if not isinstance(model, dict) or not isinstance(model.get("model_path"), str):
            raise ValueError("its /get_model_info names no `model_path`, as SGLang's does")
        server = server if isinstance(server, dict) else {}
        name = str(server.get("served_model_name") or model["model_path"])
        if wanted and wanted not in (name, model["model_path"]):
            raise ValueError(f"it serves {name}, and not {wanted}")
        longest = server.get("context_length")
        # One token is generated, whether it is wanted or not.
        length = longest - 1 if isinstance(longest, int) else ANY_LENGTH
        return ServerFacts(name, model["model_path"], length, str(server.get("version", "")))

    def question(
        self, facts: ServerFacts, prompts: Sequence[Sequence[int]], k: int, sampling: Mapping[str, float]
    ) -> dict[str, Any]:
        return {
            "input_ids": [list(prompt) for prompt in prompts],
            "sampling_params": {"max_new_tokens": 1, **sampling},
            "return_logprob": True,
            "logprob_start_len": 0,
            "top_logprobs_num": k,
            "return_text_in_logprobs": True,
            "stream": False,
        }

    def prompts_in(self, answer: Any, k: int) -> list[ScoredPrompt]:
        answers = answer if isinstance(answer, list) else [answer]
        return [_prompt(each, k) for each in answers]

    def command(self, facts: ServerFacts | None, port: int | None, k: int, longest: int | None) -> str:
        words = [
            "python -m sglang.launch_server --model-path",
            (facts and facts.source) or "MODEL",
            *([f"--port {port}"] if port else []),
        ]
        return " ".join([*words, *([f"--context-length {longest + 1}"] if longest else [])])

    def says_too_many(self, refusal: str) -> bool:
        return "top_logprobs_num" in refusal


def _prompt(answer: Any, k: int) -> ScoredPrompt:
    meta = answer.get("meta_info") if isinstance(answer, dict) else None
    own = meta.get("input_token_logprobs") if isinstance(meta, dict) else None
    likeliest = meta.get("input_top_logprobs") if isinstance(meta, dict) else None
    if not isinstance(own, list) or not (isinstance(likeliest, list) or not k):
        raise ValueError("it holds no `input_token_logprobs` and `input_top_logprobs`, which SGLang gives of a prompt")
    texts: dict[int, str] = {}
    pairs = list(zip_longest(own, likeliest or [None] * len(own)))
    try:
        ids = [token_in(each[1]) for each, _ in pairs]
        scores = [_scores(each, most or [], texts) for each, most in pairs]
    except (TypeError, LookupError) as error:
        raise ValueError("its log-probabilities are not [log-probability, token id, text]") from error
    return ScoredPrompt(ids, scores, texts)


def _scores(own: Sequence[Any], likeliest: Sequence[Any], texts: dict[int, str]) -> TokenScores | None:
    if own[0] is None:
        return None
    triples = [*likeliest, own]
    texts.update({token_in(token): said for _, token, text in triples if (said := text_in(text))})
    return {token_in(token): number_in(logprob) for logprob, token, _ in triples}
