"""What a run by a first configuration takes of memory, as `qtarget estimate` says it."""

from qtarget.data.user_files.yaml_file import YamlFile
from qtarget.job.config.flags import RunArguments
from qtarget.job.config.read_job import check_job
from qtarget.job.config.user_input import UserInput, user_input
from qtarget.job.cost.batch_shape import BatchShape
from qtarget.job.cost.run_memory import own_bytes, run_memory
from qtarget.job.first_config.key_choices import Sections
from qtarget.job.first_config.run_facts import RunFacts


def bytes_without_checkpointing(given: UserInput, settings: Sections, facts: RunFacts) -> int:
    """Bytes at the peak of the run that these settings make, where all activations are kept."""
    chosen = {each.key: each.value for part in settings.values() for each in part if not each.is_off}
    values = {**chosen, **given.values, "gradient_checkpointing": False}
    args = (job := check_job(user_input(YamlFile(values, dict.fromkeys(values, 1)), RunArguments(None, {})))).args
    width = min(facts.lengths.longest, args.max_length or facts.lengths.longest)
    shape = BatchShape(args.per_device_train_batch_size, width, float(width), True)
    return run_memory(job, shape, facts.device, own_bytes() if facts.device == "cpu" else 0)[0].total
