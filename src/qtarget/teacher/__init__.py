"""Models whose word is evidence for a target: teachers and references, live in memory, cached on disk or served.

source              the protocol that the trainer knows
live, causal_lm     a model in memory; its backbone and output layer
loading, sharding   where it comes from, and how it is cut over ranks
adapters            a LoRA adapter on the student's own base
vocabulary          whether two models speak the same tokens
documents           batches and data sets as documents, whatever row they were packed into
answers             what is kept of a live model's distributions
kept                a source over what was kept
"""

from qtarget.models.adapters import SecondAdapter, add_adapter, shares_base
from qtarget.models.causal_lm import check_head, evaluating, head_of
from qtarget.models.loading import adapter_config
from qtarget.models.same_tokens import check_same_map, check_same_tokens, number_of_tokens
from qtarget.teacher.distributions import Keep, KeptLogprobs, answers
from qtarget.teacher.documents import Document, documents_in, documents_of_rows
from qtarget.teacher.kept_source import KeptSource, LogprobStore
from qtarget.teacher.live import LiveModel, frozen, frozen_copy, load_live_model
from qtarget.teacher.padding import check_padding
from qtarget.teacher.source import EvidenceSource, ReadsAhead
from qtarget.teacher.source_name import SourceKind, SourceName

__all__ = [
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
    "answers",
    "check_head",
    "check_padding",
    "check_same_map",
    "check_same_tokens",
    "documents_in",
    "documents_of_rows",
    "evaluating",
    "frozen",
    "frozen_copy",
    "head_of",
    "load_live_model",
    "number_of_tokens",
    "shares_base",
]
