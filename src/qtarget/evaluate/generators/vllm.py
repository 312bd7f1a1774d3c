"""The generator for vLLM in this process (the extra ``vllm``): many completions at once on a GPU."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

from transformers import PreTrainedTokenizerBase

from qtarget.evaluate.generators.huggingface import ends_as_trained, model_facts, tokenizer_for
from qtarget.evaluate.nouns import Completion, OnTokens, Request, SamplingProtocol, ignore_tokens
from qtarget.models.gguf_file import checkpoint_folder

NO_ANSWERS = ("model", "revision", "load_format")
"""Arguments of the engine that stand elsewhere in a fingerprint, or decide no answer."""
CHUNK = 16
"""Batches handed to the engine at once. More keep it fuller; fewer lose less when the process is killed."""


@dataclass(frozen=True)
class VLLM:
    """vLLM's offline engine. Same seed, version and batch size are not a promise of the same text: its kernels depend
    on what stands beside a completion. So all of these are in the fingerprint.

    Attributes:
        batch_size: completions at once (`max_num_seqs`).
        dtype: a torch dtype's name; "auto" is the checkpoint's own.
        tensor_parallel: GPUs that share the model.
        allow_pickled_weights: read weights that are a pickle too.
    """

    model: str
    adapter: str | None = None
    revision: str | None = None
    dtype: str = "auto"
    batch_size: int = 256
    tensor_parallel: int = 1
    trust_remote_code: bool = False
    allow_pickled_weights: bool = False

    def __post_init__(self) -> None:
        _library()

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return ends_as_trained(tokenizer_for(self.model, self.revision, self.trust_remote_code), self.adapter)

    @property
    def engine_args(self) -> dict[str, Any]:
        """What `vllm.LLM` is called with."""
        lora = {"enable_lora": True, "max_lora_rank": 256} if self.adapter else {}
        return {
            "model": checkpoint_folder(self.model),
            "revision": self.revision,
            "dtype": self.dtype,
            "max_num_seqs": self.batch_size,
            "tensor_parallel_size": self.tensor_parallel,
            "trust_remote_code": self.trust_remote_code,
            "seed": 0,
            **({} if self.allow_pickled_weights else {"load_format": "safetensors"}),
            **lora,
        }

    @cached_property
    def engine(self) -> Any:
        return _library().LLM(**self.engine_args)

    def fingerprint(self) -> dict[str, Any]:
        arguments = {name: value for name, value in self.engine_args.items() if name not in NO_ANSWERS}
        return {
            "model": model_facts(self.model, self.adapter, self.revision, self.tokenizer),
            "generation": {"engine": "vllm", "version": _library().__version__, **arguments},
        }

    def generate(
        self, requests: Sequence[Request], ask: SamplingProtocol, on_tokens: OnTokens = ignore_tokens
    ) -> Iterator[Completion]:
        longest_first = sorted(requests, key=lambda request: -len(request.prompt_ids))
        size = self.batch_size * CHUNK
        for start in range(0, len(longest_first), size):
            chunk = longest_first[start : start + size]
            answers = self.engine.generate(
                [_prompt(request) for request in chunk],
                [_sampling(request, ask, self.tokenizer.eos_token_id) for request in chunk],
                use_tqdm=False,
                lora_request=self._lora(),
            )
            yield from map(_completion, chunk, answers)

    def _lora(self) -> Any:
        if self.adapter is None:
            return None
        return import_module("vllm.lora.request").LoRARequest("adapter", 1, self.adapter)


def _prompt(request: Request) -> Any:
    return import_module("vllm.inputs").TokensPrompt(prompt_token_ids=list(request.prompt_ids))


def _sampling(request: Request, ask: SamplingProtocol, end: Any) -> Any:
    return _library().SamplingParams(
        n=1,
        temperature=ask.temperature,
        top_p=ask.top_p,
        max_tokens=ask.max_new_tokens,
        seed=request.seed,
        stop_token_ids=None if end is None else [end],
        detokenize=True,
        skip_special_tokens=True,
    )


def _completion(request: Request, answer: Any) -> Completion:
    (output,) = answer.outputs
    ids = tuple(output.token_ids)
    return Completion(request, output.text, "stop" if output.finish_reason == "stop" else "length", len(ids), ids)


def _library() -> Any:
    try:
        return import_module("vllm")
    except ImportError as error:
        raise ImportError(
            f"--generator vllm needs vLLM, which cannot be imported here ({error}); write: pip install "
            "'qtarget[train,vllm]', in an environment of its own where its pins of torch and transformers clash with "
            "these, or serve the model with it and write --generator http --url http://127.0.0.1:8000."
        ) from error
