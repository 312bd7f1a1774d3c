"""What rounds are asked for, with what they read by its contents: another run in the folder is refused."""

import json
from typing import Any

from qtarget.disk.files import first_difference, json_digest, json_text, read_json_object
from qtarget.disk.place import check_place, free_name
from qtarget.job.config.checked_job import Job
from qtarget.job.output_folder import check_output
from qtarget.job.run_digests import digest_of_rows, model_digests
from qtarget.samples.prepare_sampling import task_questions
from qtarget.samples.sampled_prompts import KEY_OF_PROMPTS, source_of_prompts

ROUNDS_PLAN = "run.json"
NOT_OF_THE_PLAN = ("rounds", "rounds_launch", "output_dir")
"""Keys that may change between two starts of the same rounds: more of them go on behind those that are done."""


def plan_of_rounds(job: Job) -> dict[str, Any]:
    """What makes two runs of rounds the same. Costs one pass over rows and weights.

    Raises:
        ValueError: rows, questions or models that cannot be read.
    """
    configuration = {key: value for key, value in job.given.items() if key not in NOT_OF_THE_PLAN}
    return json.loads(json_text({"configuration": configuration, **_rows_read(job), **model_digests(job, [job.given])}))


def _rows_read(job: Job) -> dict[str, str]:
    """Digests of the rows and questions that rounds read: by what they are."""
    sampling, found = job.sampling, dict[str, str]()
    if sampling.task is not None:
        found["questions"] = json_digest([question.as_json() for question in task_questions(job)])
    if sampling.prompts is not None:
        found["prompts"] = digest_of_rows(job, source_of_prompts(sampling.prompts), KEY_OF_PROMPTS)
    if sampling.with_rows or not found:
        found["training_rows"] = digest_of_rows(job, job.train, "train_dataset")
    if job.evaluation is not None:
        found["evaluation_rows"] = digest_of_rows(job, job.evaluation, "eval_dataset")
    return found


def check_folder_of_rounds(job: Job, plan: dict[str, Any]) -> None:
    """Refuse an output directory that holds something else than these rounds.

    Raises:
        ValueError: names the first key that differs, or another run's file.
    """
    path = job.output / ROUNDS_PLAN
    other = free_name(job.output)
    line = f"write `output_dir: {other}` (or --output-dir {other})"
    if not path.is_file():
        check_output(job)
        if (job.output / "round-1").exists():
            raise ValueError(
                f"{job.output} holds a folder round-1, and no {ROUNDS_PLAN} says of which run it is; {line}."
            )
        return
    check_place(job.output, f"`output_dir: {job.output}`")
    before = read_json_object(path, f"bring it back, or {line}")
    if before != plan:
        raise ValueError(
            f"{job.output} holds other rounds, which differ in `{first_difference(before, plan)}`, and the two are "
            f"not mixed. Ask for the same again to go on with them, or {line}."
        )
