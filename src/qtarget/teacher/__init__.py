"""Models whose word is evidence for a target: teachers and references, live in memory.

Whatever stands behind `EvidenceSource` (a live model here, a cache on disk or a server elsewhere) says, at
each position, what it expects next.
"""

from qtarget.teacher.causal_lm import check_head, evaluating, head_of
from qtarget.teacher.live import EvidenceSource, LiveModel, frozen, frozen_copy, load_live_model
from qtarget.teacher.vocabulary import check_same_tokens, shared_rows

__all__ = [
    "EvidenceSource",
    "LiveModel",
    "check_head",
    "check_same_tokens",
    "evaluating",
    "frozen",
    "frozen_copy",
    "head_of",
    "load_live_model",
    "shared_rows",
]
