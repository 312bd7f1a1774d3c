"""A LoRA adapter merged into its base: one model, whose logits are checked against those of the adapter on the base."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import PeftConfig, PeftModel
from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from qtarget.models.causal_lm import output_layer
from qtarget.models.drawn_weights import refuse_partial_adapter
from qtarget.models.gguf_file import checkpoint_folder
from qtarget.models.loading import adapter_config, causal_lm_from, tokenizer_of
from qtarget.models.model_seal import refuse_damaged_model
from qtarget.models.pickled_weights import ALLOW, refuse_pickled_weights

PROBE_ROWS, PROBE_TOKENS = 2, 32
"""Token ids that both models are asked about."""
AGREEMENT = {torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.05}
"""How far logits may be apart, as a share of the largest, by the type of number that weights are stored in."""
OTHERWISE = 0.05


class MergePlan(NamedTuple):
    """An adapter and the base it is merged into, checked as far as is possible without weights.

    Attributes:
        dtype: of the weights that are written.
    """

    adapter: str
    base: str
    dtype: torch.dtype
    trust_remote_code: bool
    allow_pickled_weights: bool


class MergeProbe(NamedTuple):
    """How far the merged model's logits are from those of the adapter on its base, on a few token ids.

    Attributes:
        difference: the largest of a logit.  largest: the largest logit.
        moved: the largest difference that the adapter makes to its base.
    """

    difference: float
    largest: float
    moved: float


def plan_merge(
    adapter: str, base: str | None, *, trust_remote_code: bool = False, allow_pickled_weights: bool = False
) -> MergePlan:
    """What will be merged into what.

    Args:
        adapter: a LoRA adapter's folder or hub name.
        base: another place of its base than the adapter names.

    Raises:
        ValueError: no adapter, one that cannot be merged, a base that is not there or is quantised.
        OSError: neither a folder nor an adapter on the hub has the name.
    """
    config = adapter_config(adapter)
    if config is None and not Path(adapter).expanduser().exists():
        raise OSError("no adapter_config.json of that name was found.")
    if config is None:
        raise ValueError(f"{adapter} holds no adapter (adapter_config.json); name the folder that training wrote.")
    if not allow_pickled_weights:
        refuse_pickled_weights(adapter)
    refuse_damaged_model(adapter)
    if config.get("peft_type") != "LORA":
        raise ValueError(
            f"{adapter} is an adapter of the type {config.get('peft_type')}, and only LoRA adapters are merged here."
        )
    base = base or str(config["base_model_name_or_path"])
    _check_base(adapter, base, allow_pickled_weights)
    described = AutoConfig.from_pretrained(checkpoint_folder(base), trust_remote_code=trust_remote_code)
    _refuse_quantised(base, described)
    dtype = getattr(described.get_text_config(), "dtype", None)
    dtype = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    return MergePlan(adapter, base, dtype or torch.float32, trust_remote_code, allow_pickled_weights)


def _check_base(adapter: str, base: str, allow_pickled_weights: bool) -> None:
    folder = Path(base).expanduser()
    if folder.is_absolute() and not folder.exists():
        raise ValueError(f"{adapter} is on {base}, which is not there; name its base where it is now: --base FOLDER.")
    if (folder / "adapter_config.json").is_file():
        raise ValueError(f"{base} is an adapter too; merge it into its own base first: `qtarget merge {base}`.")
    if not allow_pickled_weights:
        refuse_pickled_weights(checkpoint_folder(base))


def _refuse_quantised(base: str, config: Any) -> None:
    quantisation = getattr(config, "quantization_config", None)
    if not quantisation:
        return
    method = quantisation.get("quant_method") if isinstance(quantisation, dict) else type(quantisation).__name__
    raise ValueError(
        f"{base} is stored quantised ({method}): its weights are rounded, and an adapter merged into them would be "
        "rounded away. Name the model as it was before it was quantised: --base path/or/hub-name."
    )


def merge_adapter(plan: MergePlan, folder: Path) -> MergeProbe:
    """Merge, write the model with tokenizer and generation configuration into a folder, and check what was written.

    The merge is computed in float32 and written in the base's own type.

    Args:
        folder: where nothing is yet.

    Raises:
        ValueError: the written model does not agree with the adapter on its base.
    """
    tokenizer = _tokenizer(plan)
    ids, expected, base_alone = _merge_and_save(plan, tokenizer, folder)
    written = causal_lm_from(
        str(folder), {"dtype": plan.dtype, "trust_remote_code": plan.trust_remote_code, ALLOW: False}
    )
    found = _logits(written.float(), ids)
    columns = min(base_alone.shape[-1], expected.shape[-1])
    moved = float((expected[..., :columns] - base_alone[..., :columns]).abs().max())
    probe = MergeProbe(float((found - expected).abs().max()), float(expected.abs().max()), moved)
    if not probe.difference <= AGREEMENT.get(plan.dtype, OTHERWISE) * probe.largest:
        raise ValueError(
            f"the merged model's logits are up to {probe.difference:.3g} from those of {plan.adapter} on {plan.base} "
            f"(the largest logit is {probe.largest:.3g}), so it is another model, and nothing was kept. Use the "
            "adapter as it is: every command takes its folder."
        )
    return probe


def _merge_and_save(plan: MergePlan, tokenizer: PreTrainedTokenizerBase, folder: Path) -> tuple[Tensor, Tensor, Tensor]:
    """The probe's token ids, and the logits of the adapter on its base, and of the base alone, before the merge."""
    base: Any = causal_lm_from(
        plan.base,
        {"dtype": torch.float32, "trust_remote_code": plan.trust_remote_code, ALLOW: plan.allow_pickled_weights},
    )
    if len(tokenizer) > base.get_input_embeddings().weight.shape[0]:
        base.resize_token_embeddings(len(tokenizer))
    _untie_where_adapted(base, plan.adapter)
    ids = _probe_ids(base.get_input_embeddings().weight.shape[0])
    of_base = _logits(base, ids)
    adapted: Any = PeftModel.from_pretrained(base, plan.adapter)
    read = adapted.load_adapter(plan.adapter, adapted.active_adapter)  # once more: the first time, it only warns
    refuse_partial_adapter(plan.adapter, read.missing_keys, read.unexpected_keys)
    expected = _logits(adapted, ids)
    merged: Any = adapted.merge_and_unload(safe_merge=True)
    _keep_generation(merged, plan, tokenizer)
    merged.to(plan.dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return ids, expected, of_base


def _tokenizer(plan: MergePlan) -> PreTrainedTokenizerBase:
    """The tokenizer that was saved beside the adapter, else the base's."""
    if (Path(plan.adapter) / "tokenizer_config.json").is_file():
        return AutoTokenizer.from_pretrained(plan.adapter, trust_remote_code=plan.trust_remote_code)
    tokenizer = tokenizer_of(plan.base, plan.trust_remote_code)
    assert tokenizer is not None
    return tokenizer


def _untie_where_adapted(base: PreTrainedModel, adapter: str) -> None:
    """Make two matrices of a tied embedding and output layer where the adapter changes one of them alone."""
    embedding: Any = base.get_input_embeddings()
    head: Any = output_layer(base)
    if head.weight is not embedding.weight or not any(_adapts(name, base, adapter) for name in (embedding, head)):
        return
    head.weight = nn.Parameter(head.weight.detach().clone())
    base.config.tie_word_embeddings = False
    base.config.get_text_config().tie_word_embeddings = False


def _adapts(layer: nn.Module, base: PreTrainedModel, adapter: str) -> bool:
    config: Any = PeftConfig.from_pretrained(adapter)
    name = next((name for name, module in base.named_modules() if module is layer), "").rpartition(".")[2]
    targets = config.target_modules or ()
    named = {targets} if isinstance(targets, str) else set(targets)
    return any(each.rpartition(".")[2] == name for each in {*named, *(config.modules_to_save or ())})


def _keep_generation(model: PreTrainedModel, plan: MergePlan, tokenizer: PreTrainedTokenizerBase) -> None:
    """Generation stops where it did, and at the end token of the tokenizer that was trained with."""
    config = model.generation_config or GenerationConfig()
    given: Any = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    both: Any = [*given, tokenizer.eos_token_id]
    ends = list(_distinct(both))
    config.eos_token_id = ends[0] if len(ends) == 1 else ends or None
    model.generation_config = config


def _distinct(ends: list[int | None]) -> Iterator[int]:
    yield from dict.fromkeys(end for end in ends if end is not None)


def _probe_ids(vocabulary: int) -> Tensor:
    """Token ids drawn from a seed, `[PROBE_ROWS, PROBE_TOKENS]`."""
    return torch.randint(vocabulary, (PROBE_ROWS, PROBE_TOKENS), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def _logits(model: Any, ids: Tensor) -> Tensor:
    return model.eval()(input_ids=ids, use_cache=False).logits.float()
