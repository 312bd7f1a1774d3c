"""Models whose word is evidence for a target: teachers and references, live in memory, cached on disk or served.

source              the protocol that the trainer knows
live, causal_lm     a model in memory; its backbone and output layer
vocabulary          whether two models speak the same tokens
documents           batches and data sets as documents, whatever row they were packed into
answers             what is kept of a live model's distributions
kept                a source over what was kept
"""

from qtarget.teacher.answers import Keep, Kept, answers
from qtarget.teacher.causal_lm import check_head, evaluating, head_of
from qtarget.teacher.documents import Document, documents_in, documents_of_rows
from qtarget.teacher.kept import Answers, KeptSource
from qtarget.teacher.live import LiveModel, frozen, frozen_copy, load_live_model
from qtarget.teacher.source import EvidenceSource, ReadsAhead
from qtarget.teacher.vocabulary import check_same_tokens, shared_rows

__all__ = [
    "Answers",
    "Document",
    "EvidenceSource",
    "Keep",
    "Kept",
    "KeptSource",
    "LiveModel",
    "ReadsAhead",
    "answers",
    "check_head",
    "check_same_tokens",
    "documents_in",
    "documents_of_rows",
    "evaluating",
    "frozen",
    "frozen_copy",
    "head_of",
    "load_live_model",
    "shared_rows",
]
