"""What `qtarget train` refuses once its models are open, asked without any weights: of a run that is one of many."""

from collections.abc import Sequence
from typing import Any

from qtarget.job.build import check_loading, remove_if_empty
from qtarget.job.config.checked_job import Job
from qtarget.job.cost.student_memory import check_student_is_built
from qtarget.job.rows.rendering import RowsTrainer, rows_trainer
from qtarget.models.loading import tokenizer_of
from qtarget.models.pickled_weights import refuse_pickled_weights
from qtarget.teacher import KeptSource, SourceKind, SourceName, check_head, check_same_tokens
from qtarget.train.build_sources import Student, causal_lm
from qtarget.train.lookup import check_absent_caches, check_coverage, check_lookups, lookup_source, rendering


class WeightlessTrainer(RowsTrainer):
    """A trainer whose models have no weights: caches and servers are opened, of models the tokenizers alone."""

    def _add_evidence(self, teachers: Sequence[Any], given: Any) -> None:
        base = causal_lm(self.model)
        check_head(base, "model")
        student = Student(self.model, base, self.text_tokenizer, self.args.device)
        named = {**{f"teacher {index}": each for index, each in enumerate(teachers)}, "reference": given}
        named = {
            name: each for name, each in named.items() if each is not None and name.split()[0] in self.method.needs
        }
        check_absent_caches(self.method, named, student.vocabulary, self.args)
        found = {name: lookup_source(each, name, student, self.method, self.args) for name, each in named.items()}
        check_lookups(self.method, found, student.vocabulary)
        kept = {name: source for name, source in found.items() if isinstance(source, KeptSource)}
        datasets = {"train": self.train_dataset, "eval": self.eval_dataset}
        check_coverage(kept, datasets, rendering(self.args, self.text_tokenizer, self.chat_template))
        for name, source in found.items():
            self._check_model(name.split()[0], source)
        super()._add_evidence(teachers, given)

    def _check_model(self, role: str, source: Any) -> None:
        """Refuse a teacher or a reference that names a model of other tokens than the student's."""
        if not isinstance(source, str) or SourceName.parse(source).kind is not SourceKind.MODEL:
            return
        if not self.args.allow_pickled_weights:
            refuse_pickled_weights(source)
        init_kwargs: Any = getattr(self.args, f"{role}_init_kwargs") or {}
        tokenizer = tokenizer_of(source, bool(init_kwargs.get("trust_remote_code")))
        assert tokenizer is not None
        check_same_tokens(self.text_tokenizer, tokenizer, role)


def check_without_weights(job: Job, **changes: Any) -> None:
    """Refuse what `qtarget train` refuses before its first step, as far as no weights are needed to see it: its rows
    and their prompts, tokenizers, caches and servers, how models are loaded, and where an adapter is put.

    Args:
        changes: fields of the trainer's configuration that are others than the run's.

    Raises:
        ValueError, ImportError: as `qtarget train`.
    """
    check_loading(job)
    with remove_if_empty(job.output):
        rows_trainer(job, WeightlessTrainer, **changes)
    check_student_is_built(job)
