"""vLLM: `POST /v1/completions` with token ids and `prompt_logprobs`.

At each place of a prompt stands {"token id": {"logprob", "rank", "decoded_token"}}: the K likeliest tokens and the one
that stands there, K + 1 of them where it is not among them; null at the first. Seen with vLLM 0.32.0.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qtarget.teacher.engines.dialect import ScoredPrompt, ServerFacts, TokenScores, number_in, text_in, token_in


@dataclass(frozen=True)
class VllmDialect:
    """How vLLM is talked to."""

    name: str = "vLLM"
    path: str = "/v1/completions"

    def facts(self, get: Callable[[str], Any], wanted: str) -> ServerFacts:
        served = _served(get("/v1/models"))
        version = get("/version")
        names = [str(each["id"]) for each in served]
        if wanted and wanted not in names:
            raise ValueError(f"it serves {', '.join(names)}, and not {wanted}: write one of these behind the #")
        bases = [each for each in served if str(each["id"]) == wanted or not (wanted or each.get("parent"))]
        if len(bases) != 1:
            raise ValueError(f"it serves {', '.join(names)}: say which, behind a # at the end of the address")
        found, base = bases[0], _base_of(bases[0], served)
        longest, adapter = base.get("max_model_len"), "" if base is found else str(found.get("root") or found["id"])
        if type(longest) is not int or longest < 2:
            raise ValueError("its /v1/models does not say `max_model_len`, as vLLM's does")
        said = str(version.get("version", "")) if isinstance(version, dict) else ""
        # One token is generated, whether it is wanted or not.
        return ServerFacts(str(found["id"]), str(base.get("root") or ""), longest - 1, said, adapter)

    def question(
        self, facts: ServerFacts, prompts: Sequence[Sequence[int]], k: int, sampling: Mapping[str, float]
    ) -> dict[str, Any]:
        asked = {"model": facts.model, "prompt": [list(prompt) for prompt in prompts], "prompt_logprobs": k}
        return {**asked, "max_tokens": 1, "n": 1, "stream": False, "return_token_ids": True, **sampling}

    def prompts_in(self, answer: Any, k: int) -> list[ScoredPrompt]:
        choices = sorted(_list(answer, "choices"), key=lambda choice: token_in(choice["index"]))
        return [_prompt(choice) for choice in choices]

    def command(self, facts: ServerFacts | None, port: int | None, k: int, longest: int | None) -> str:
        words = ["vllm serve", (facts and facts.source) or "MODEL"]
        words += [f"--enable-lora --lora-modules {facts.model}={facts.adapter}"] if facts and facts.adapter else []
        words += [*([f"--port {port}"] if port else []), f"--max-logprobs {k}", "--logprobs-mode raw_logprobs"]
        return " ".join([*words, *([f"--max-model-len {longest + 1}"] if longest else [])])

    def says_too_many(self, refusal: str) -> bool:
        return "logprobs" in refusal and "max allowed" in refusal


def _served(listed: Any) -> list[dict[str, Any]]:
    models = listed.get("data") if isinstance(listed, dict) else None
    if not isinstance(models, list) or not models or not all(isinstance(m, dict) and "id" in m for m in models):
        raise ValueError("its /v1/models lists no models")
    return models


def _base_of(model: dict[str, Any], served: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The model that an adapter is on: a base is its own."""
    return next((each for each in served if model.get("parent") and each["id"] == model["parent"]), model)


def _list(answer: Any, name: str) -> list[Any]:
    found = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(found, list) or not all(isinstance(each, dict) and "index" in each for each in found):
        raise ValueError(f"it holds no `{name}`")
    return found


def _prompt(choice: Mapping[str, Any]) -> ScoredPrompt:
    places, ids = choice.get("prompt_logprobs"), choice.get("prompt_token_ids")
    if places is None:
        raise ValueError("it holds no `prompt_logprobs`, which vLLM gives of a prompt's tokens")
    if not isinstance(places, list) or not (ids is None or isinstance(ids, list)):
        raise ValueError("its `prompt_logprobs` are no list")
    texts: dict[int, str] = {}
    return ScoredPrompt(ids, [_scores(place, texts) for place in places], texts)


def _scores(place: Any, texts: dict[int, str]) -> TokenScores | None:
    if place is None:
        return None
    try:
        scores = {token_in(token): number_in(each["logprob"]) for token, each in place.items()}
        said = {token_in(token): text_in(each.get("decoded_token")) for token, each in place.items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("its `prompt_logprobs` are not {token id: {logprob, …}}") from error
    texts.update({token: text for token, text in said.items() if text})
    return scores
