"""From a resolved configuration to a checked run."""

from typing import Any

from qtarget.job.config.flags import Words
from qtarget.job.config.job import Job, checked_job
from qtarget.job.config.user_input import user_input
from qtarget.job.config.yaml_file import YamlFile


def job_of(values: dict[str, Any]) -> Job:
    """The checked run that a resolved configuration describes. Nothing is downloaded for it."""
    return checked_job(user_input(YamlFile(values, {}), Words(None, {})))
