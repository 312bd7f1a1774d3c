"""From an arm's configuration to a checked `Job`."""

from typing import Any

from qtarget.data.user_files.yaml_file import YamlFile
from qtarget.job.config.checked_job import Job
from qtarget.job.config.flags import RunArguments
from qtarget.job.config.read_job import check_job
from qtarget.job.config.user_input import user_input


def job_of(values: dict[str, Any]) -> Job:
    """The `Job` that keys and values describe, as `qtarget train` would read them. Nothing is downloaded.

    Raises:
        ValueError: a key or value that `qtarget train` refuses.
    """
    return check_job(user_input(YamlFile(values, {}), RunArguments(None, {})))
