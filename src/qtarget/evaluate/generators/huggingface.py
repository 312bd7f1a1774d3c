"""The generator for a model loaded here by transformers, on a CPU or a GPU."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from qtarget.evaluate.generators.drawing import positions_of_model
from qtarget.evaluate.generators.sampling import complete_as_they_end
from qtarget.evaluate.nouns import Completion, OnTokens, Request, SamplingProtocol, ignore_tokens
from qtarget.models.causal_lm import keep_head_input_contiguous
from qtarget.models.drawn_weights import refuse_drawn_weights
from qtarget.models.gguf_file import checkpoint_folder
from qtarget.models.identity import template_identity, tokenizer_identity, weights_identity
from qtarget.models.loading import adapter_config, causal_lm_from, tokenizer_of
from qtarget.models.model_seal import refuse_damaged_model
from qtarget.models.pickled_weights import ALLOW, refuse_pickled_weights


@dataclass(frozen=True)
class HuggingFace:
    """A causal language model that answers several prompts at once, the longest first; where an answer has ended, the
    next prompt takes its place.

    The weights are loaded when the first answer is drawn. An answer ends at the latest where its own prompt and it have
    used up the model's positions.

    Attributes:
        model: folder or hub name; a LoRA adapter's folder stands for the adapter on its base.
        adapter: folder of a LoRA adapter to put on the model.
        dtype: a torch dtype's name; "auto" is float32 on a CPU, bfloat16 on a GPU that has it, else float16.
        device: as torch names it; "auto" is a GPU where there is one.
        batch_size: completions at once.
        allow_pickled_weights: read weights that are a pickle too.
    """

    model: str
    adapter: str | None = None
    revision: str | None = None
    dtype: str = "auto"
    device: str = "auto"
    batch_size: int = 32
    trust_remote_code: bool = False
    allow_pickled_weights: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size} was given; write --batch-size 1 or more.")
        if self.dtype != "auto" and not isinstance(getattr(torch, self.dtype, None), torch.dtype):
            raise ValueError(f"{self.dtype!r} is no torch dtype; write --dtype float32, bfloat16, float16 or auto.")

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return ends_as_trained(tokenizer_for(self.model, self.revision, self.trust_remote_code), self.adapter)

    @cached_property
    def network(self) -> PreTrainedModel:
        """The model, loaded."""
        network = causal_lm_from(
            self.model,
            {
                "dtype": getattr(torch, self._dtype),
                "revision": self.revision,
                "trust_remote_code": self.trust_remote_code,
                ALLOW: self.allow_pickled_weights,
            },
        )
        if self.adapter is not None:
            if not self.allow_pickled_weights:
                refuse_pickled_weights(self.adapter)
            with refuse_drawn_weights(self.adapter):
                network.load_adapter(self.adapter)
        network.requires_grad_(False).eval()
        keep_head_input_contiguous(network)
        return network.to(self._device)  # type: ignore[arg-type]

    def fingerprint(self) -> dict[str, Any]:
        """What the answers depend on, without loading the weights."""
        return {
            "model": model_facts(self.model, self.adapter, self.revision, self.tokenizer),
            "generation": {
                "engine": "transformers",
                "version": transformers.__version__,
                "torch": torch.__version__,
                "dtype": self._dtype,
                "device": _device_name(self._device),
                "batch_size": self.batch_size,
                **({"trust_remote_code": True} if self.trust_remote_code else {}),
            },
        }

    def generate(
        self, requests: Sequence[Request], ask: SamplingProtocol, on_tokens: OnTokens = ignore_tokens
    ) -> Iterator[Completion]:
        if requests:
            self._check_room(max(requests, key=lambda request: len(request.prompt_ids)))
        yield from complete_as_they_end(self.network, self.tokenizer, requests, ask, self.batch_size, on_tokens)

    def _check_room(self, longest: Request) -> None:
        positions = positions_of_model(self.network)
        if positions is not None and len(longest.prompt_ids) >= positions:
            raise ValueError(
                f"The prompt of question {longest.qid!r} has {len(longest.prompt_ids)} tokens and {self.model} has "
                f"{positions} positions, so nothing can be answered; use a model with a longer context."
            )

    @property
    def _device(self) -> torch.device:
        if self.device != "auto":
            return torch.device(self.device)
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def _dtype(self) -> str:
        if self.dtype != "auto":
            return self.dtype
        if self._device.type != "cuda":
            return "float32"
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"


def tokenizer_for(model: str, revision: str | None, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """The tokenizer of a model, or of an adapter's base."""
    if revision is None and not trust_remote_code:
        tokenizer = tokenizer_of(model)
        assert tokenizer is not None
        return tokenizer
    return AutoTokenizer.from_pretrained(
        checkpoint_folder(model), revision=revision, trust_remote_code=trust_remote_code
    )


def ends_as_trained(tokenizer: PreTrainedTokenizerBase, adapter: str | None) -> PreTrainedTokenizerBase:
    """The base's tokenizer, with the end token of the one that was saved beside an adapter: an adapter may have been
    taught another, and it has no generation configuration of its own."""
    if adapter is not None:
        refuse_damaged_model(adapter)
    if adapter is not None and (Path(adapter) / "tokenizer_config.json").is_file():
        end = AutoTokenizer.from_pretrained(adapter, trust_remote_code=False).eos_token
        if end in tokenizer.get_vocab():
            tokenizer.eos_token = end
    return tokenizer


def model_facts(
    model: str, adapter: str | None, revision: str | None, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any]:
    """A model's name, and what its weights and tokens are: a hub commit, or sha256."""
    if adapter is not None and adapter_config(adapter) is None:
        raise ValueError(
            f"--adapter {adapter} holds no adapter (adapter_config.json); write the folder that peft saved."
        )
    return {
        "name": model,
        "weights": weights_identity(model, revision),
        **({"adapter": adapter, "adapter_weights": weights_identity(adapter)} if adapter else {}),
        "tokenizer": tokenizer_identity(tokenizer),
        "template": template_identity(tokenizer.chat_template),
    }


def _device_name(device: torch.device) -> str:
    return f"cuda: {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type
