"""`qtarget inspect`: from a configuration to what its rows would be trained toward."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from qtarget.job.build import build_trainer, remove_if_empty
from qtarget.job.config.checked_job import Job
from qtarget.job.inspection.findings import (
    Findings,
    contradictions,
    kind_figures,
    method_figures,
    surest_against,
    teacher_figures,
    token_shares,
)
from qtarget.job.inspection.likeliest_tokens import OF_PAGE, Keeping
from qtarget.job.inspection.measured_rows import MeasuredSet, conflict_score, measure
from qtarget.job.inspection.row_audit import audit_rows
from qtarget.job.inspection.row_evidence import candidate_targets, row_statistics
from qtarget.job.inspection.row_forward import ForwardReader
from qtarget.job.inspection.row_lines import row_lines
from qtarget.job.inspection.token_table import TokenTable, map_regions, token_table
from qtarget.job.inspection.trained_rows import TrainedRows, choose_rows
from qtarget.job.teacher_mass import mass_warnings
from qtarget.train import TargetSFTTrainer
from qtarget.train.build_sources import as_teachers
from qtarget.train.end_of_turn import end_tokens


@dataclass(frozen=True)
class Inspection:
    """A run's rows, measured, and what was found.

    Attributes:
        trainer: that prepared the rows and opened the models.
        prepared: all of its documents.
        found, table: the measured rows, and their tokens as columns.
        thin_teachers: warnings of caches and servers that hold little of their teacher.
    """

    trainer: TargetSFTTrainer
    prepared: TrainedRows
    found: MeasuredSet
    table: TokenTable
    findings: Findings
    thin_teachers: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The findings, with the sentences' own words, for programs."""
        regions = [region._asdict() for region in map_regions()]
        return {**asdict(self.findings), "regions": regions, "thin_teachers": list(self.thin_teachers)}


def inspect_job(job: Job, rows: int, scan: int) -> Inspection:
    """Look at some rows of a run as its trainer would see them; nothing is trained, and no directory is left behind.

    Args:
        rows: how many are measured.
        scan: how many more the student reads, to find those that contradict it most.

    Raises:
        ValueError: rows or models that are missing, damaged, or do not fit each other or the method.
    """
    with remove_if_empty(job.output):
        trainer = build_trainer(job)
    made = inspect_trainer(trainer, rows, scan, model=str(job.given["model"]))
    places = row_lines(job, trainer.row_counts.get("train"), made.prepared, made.findings.named)
    named = job.given.get("teacher") or job.given.get("teacher_cache") or ()
    teacher = ", ".join(map(str, as_teachers(named)))
    return replace(made, findings=replace(made.findings, places=places, teacher=teacher))


def inspect_trainer(
    trainer: TargetSFTTrainer, rows: int, scan: int, keep: Keeping = OF_PAGE, model: str = ""
) -> Inspection:
    """Look at some rows of a trainer that was built.

    Args:
        rows, scan: as in `inspect_job`.
        keep: which candidates of each distribution the page gets.
        model: what the student is called; by default by its own path.
    """
    prepared, reader, args = TrainedRows(trainer.train_dataset), ForwardReader(trainer), trainer.args
    ends = end_tokens(trainer.model, trainer.text_tokenizer)
    counts = trainer.row_counts.get("train")
    audit = audit_rows(prepared, trainer.text_tokenizer, ends, args.max_length, counts)
    chosen = choose_rows(prepared, rows, scan, args.seed, lambda row: conflict_score(reader, row))
    if not chosen:
        raise ValueError("no row learns a token, so there is nothing to look at; `qtarget validate` shows a row.")
    found = measure(reader, chosen, trainer.method, args.per_device_train_batch_size, keep)
    if all(row.row.why == "all" for row in found.rows):
        found = replace(found, rows=sorted(found.rows, key=lambda row: row.row.number))
    table = token_table(found, trainer.text_tokenizer, ends)
    sample = table.sample()
    statistics = row_statistics(sample)
    findings = Findings(
        model or str(reader.student.name_or_path),
        trainer.method.name,
        tuple((row.row.number, row.row.why) for row in found.rows),
        len(sample.rows),
        len(sample.row),
        audit,
        method_figures(found, sample),
        found.open.closed,
        token_shares(sample),
        teacher_figures(sample),
        surest_against(table, trainer.text_tokenizer, found.vocabulary),
        contradictions(table),
        kind_figures(sample),
        tuple(statistics),
        tuple(candidate_targets(statistics, len(table.teachers))),
        args.per_device_train_batch_size,
    )
    return Inspection(trainer, prepared, found, table, findings, tuple(mass_warnings(trainer)))
