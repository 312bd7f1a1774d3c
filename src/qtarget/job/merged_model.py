"""`qtarget merge`: an adapter and its base as one sealed model folder with a card."""

from pathlib import Path

import yaml

from qtarget.console import spelled_out
from qtarget.disk.draft_folder import drafted_folder
from qtarget.disk.files import file_digest, replace_text
from qtarget.disk.place import check_place, free_name
from qtarget.disk.seal import seal
from qtarget.job.facts import versions
from qtarget.models.identity import weights_identity
from qtarget.models.merging import PROBE_ROWS, PROBE_TOKENS, MergePlan, MergeProbe, merge_adapter
from qtarget.models.pickled_weights import ADAPTER_PICKLE, ADAPTER_WEIGHTS


def check_free(out: Path) -> None:
    """Refuse a place that holds something, or cannot be written to.

    Raises:
        ValueError: names a free place.
    """
    if out.exists() or out.is_symlink():
        raise ValueError(f"`--out {out}` is there already, and nothing is overwritten; write --out {free_name(out)}.")
    check_place(out, f"`--out {out}`")


def write_merged(plan: MergePlan, out: Path) -> MergeProbe:
    """Merge, and write model, tokenizer, card and manifest. The folder appears whole or not at all.

    Raises:
        ValueError: as `merge_adapter`.
    """
    with drafted_folder(out) as draft:
        probe = merge_adapter(plan, draft)
        replace_text(draft / "README.md", merge_card(plan, probe))
        seal(draft, {"merged": {"base": plan.base, "adapter": plan.adapter, **probe._asdict()}})
    return probe


def merge_card(plan: MergePlan, probe: MergeProbe) -> str:
    """The model card: what was merged into what, and how far the result is from the two."""
    named = {} if Path(plan.base).is_absolute() else {"base_model": plan.base}
    facts = {"library_name": "transformers", **named, "pipeline_tag": "text-generation", "tags": ["qtarget", "merged"]}
    head = yaml.safe_dump(facts, allow_unicode=True, sort_keys=False)
    installed = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"""---
{head}---

# A LoRA adapter, merged into its base

The weights are those of the base with the adapter's change added, computed in float32 and stored in {_name(plan)}.

- Base: {_code(plan.base)} (weights {_code(weights_identity(plan.base))})
- Adapter: {_code(plan.adapter)} (weights {_code(_adapter_identity(plan.adapter))})
- On {PROBE_ROWS * PROBE_TOKENS} token ids its logits are at most {probe.difference:.3g} from those of the adapter on
  its base; the largest logit is {probe.largest:.3g}, and the adapter changes the base's by up to {probe.moved:.3g}.
- Made by `qtarget merge` with {installed}.
{_training_card(plan)}"""


def _adapter_identity(adapter: str) -> str:
    """sha256 of the adapter's own weights, wherever its base is now; of one on the hub its commit."""
    files = [Path(adapter) / name for name in (ADAPTER_WEIGHTS, ADAPTER_PICKLE)]
    return next((file_digest(file) for file in files if file.is_file()), None) or weights_identity(adapter)


def _training_card(plan: MergePlan) -> str:
    card = Path(plan.adapter) / "README.md"
    return f"\nHow the adapter was trained stands in {_code(str(card))}.\n" if card.is_file() else ""


def _name(plan: MergePlan) -> str:
    return str(plan.dtype).removeprefix("torch.")


def _code(text: str) -> str:
    """A name as code, on one line, which cannot end it."""
    return f"`{spelled_out(text).replace('`', chr(39))}`"
