"""Teachers and references: models whose next-token distributions enter a target, live, cached on disk or served.

source          the protocol that the trainer knows: whatever gives evidence about a batch
source_name     what a text in a configuration names: a model, a server, a cache
live            a model in memory
padding         rows of its output layer that stand for no token
documents       batches and data sets as documents, whatever rows they were packed into
distributions   what is kept of a live model's distributions: the K likeliest tokens and the rest of the mass
cache/          what was kept, on disk
served/         what is kept, over HTTP, from `qtarget teacher serve`
engines/        what is kept, over HTTP, from vLLM and SGLang
served_store    a server of whatever kind, opened by its address
kept_source     a source that looks up what was kept, on disk or on a server
background      threads that ask a server while the training computes
"""

from qtarget.outcomes import needs_extra

with needs_extra("qtarget.teacher"):
    from qtarget.models.adapters import SecondAdapter, add_adapter, shares_base
    from qtarget.models.causal_lm import eval_mode, head_of
    from qtarget.models.head_check import check_head
    from qtarget.models.loading import adapter_config
    from qtarget.models.same_tokens import check_same_map, check_same_tokens, number_of_tokens
    from qtarget.teacher.distributions import Keep, KeptLogprobs, kept_logprobs
    from qtarget.teacher.documents import Document, documents_in, documents_of_rows
    from qtarget.teacher.kept_source import KeptSource, LogprobStore
    from qtarget.teacher.live import LiveModel, frozen, frozen_copy, load_live_model
    from qtarget.teacher.padding import check_padding
    from qtarget.teacher.source import EvidenceSource, ReadsAhead
    from qtarget.teacher.source_name import SELF, SourceKind, SourceName

__all__ = [
    "SELF",
    "Document",
    "EvidenceSource",
    "Keep",
    "KeptLogprobs",
    "KeptSource",
    "LiveModel",
    "LogprobStore",
    "ReadsAhead",
    "SecondAdapter",
    "SourceKind",
    "SourceName",
    "adapter_config",
    "add_adapter",
    "check_head",
    "check_padding",
    "check_same_map",
    "check_same_tokens",
    "documents_in",
    "documents_of_rows",
    "eval_mode",
    "frozen",
    "frozen_copy",
    "head_of",
    "kept_logprobs",
    "load_live_model",
    "number_of_tokens",
    "shares_base",
]
