"""From a resolved configuration to a checked run."""

from typing import Any

from qtarget.job.config import Job, checked_job
from qtarget.job.flags import Words
from qtarget.job.written import written
from qtarget.job.yaml_file import YamlFile


def job_of(values: dict[str, Any]) -> Job:
    """The checked run that a resolved configuration describes. Nothing is downloaded for it."""
    return checked_job(written(YamlFile(values, {}), Words(None, {})))
