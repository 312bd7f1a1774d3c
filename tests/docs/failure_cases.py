"""The 26 failure cases of docs/reliability.md: each in plain words, what qtarget does, and what was seen of others."""

from collections.abc import Mapping
from typing import NamedTuple


class FailureCase(NamedTuple):
    """A way in which a run fails.

    Attributes:
        happens: what goes wrong.
        answer: what qtarget does then.
        others: what was measured, or read in the source, of other trainers, by their names.
    """

    happens: str
    answer: str
    others: Mapping[str, str] = {}


OTHERS = ("transformers", "axolotl", "torchtitan")
FAILURE_CASES = {
    1: FailureCase(
        "The process is killed (`kill -9`) at any moment of a save",
        "A checkpoint has its name only once it is whole; the run goes on from the newest whole one, to the weights, "
        "cache or samples of the run that was never killed, bit for bit.",
        {
            "transformers": "killed between two saves, a resumed run is bit-equal (measured); killed inside a save, "
            "`trainer_state.json` is missing and resuming fails, though a whole checkpoint stands beside (measured)",
            "torchtitan": "a checkpoint counts only with its `.metadata`, which is written last (read)",
        },
    ),
    2: FailureCase(
        "A bit flips in a file, or a file is cut short, removed, or swapped with another",
        "Every file that is read again has its sha256 in a manifest or in itself: it is named and refused, passed "
        "over, or made anew.",
        {
            "transformers": "a flipped bit in weights or optimizer, a missing optimizer or random state: resumes "
            "silently to other weights (measured); cut weights: an error that names no file (measured)",
        },
    ),
    3: FailureCase(
        "A loss or a gradient is NaN or infinite at some step",
        "The step is not taken, the run ends with exit code 1 and the row's name, and the weights of the step before "
        "stay; nothing that is not finite is saved.",
        {
            "transformers": "logs 0.0, makes all weights NaN, and ends with exit code 0 (measured)",
            "axolotl": "a watchdog on the loss, when it is switched on (read)",
            "torchtitan": "raises at a loss that is not finite, before the update (read)",
        },
    ),
    4: FailureCase(
        "The same batch is cut otherwise: micro-batches, accumulation, ranks",
        "Loss and gradient are those of the whole batch, for every objective (three that rank the tokens of a batch "
        "mean the batch they are given).",
        {
            "transformers": "a `compute_loss` of one's own that returns a mean has 4 times the gradient under 4 "
            "micro-batches (measured)",
        },
    ),
    5: FailureCase(
        "Rows are packed or laid end to end instead of padded",
        "Each token's loss, trust and probability are the same, for every objective.",
    ),
    6: FailureCase(
        "A teacher's cache is out of step with the rows by one token",
        "It is refused: the tokens that were asked about are stored beside the answers, and compared.",
    ),
    7: FailureCase(
        "The teacher's vocabulary is padded, permuted or another",
        "Padding gets no mass; tokens are compared by their map, and the first ids that differ are named.",
    ),
    8: FailureCase(
        "A cache holds only the likeliest tokens of the teacher",
        "What that costs is bounded by the mass that was cut; kept and cut mass make 1, the observed token is always "
        "kept, and the limits of η hold.",
    ),
    9: FailureCase(
        "A row has no label: all is masked, the completion is empty, the prompt fills `max_length`, nothing ends it",
        "It is left out and counted, or refused with its place, before training; a batch without a label gives 0.",
    ),
    10: FailureCase(
        "The padding token is the end token",
        "The end of an answer is learned all the same; padding is not.",
    ),
    11: FailureCase(
        "A cache is older than the run's rows, template, tokenizer, teacher or precision",
        "It is refused with both values.",
    ),
    12: FailureCase(
        "Lines of JSON are broken, of another type, not UTF-8, or no rows",
        "They are refused with file, line and column, or skipped and counted.",
    ),
    13: FailureCase(
        "A question has 15 of its 16 samples",
        "No average is given; the question is named, and the same `qtarget eval` draws the sample.",
    ),
    14: FailureCase(
        "All samples of a question agree at a temperature above 0",
        "A warning counts such questions.",
    ),
    15: FailureCase(
        "An answer is a bomb for the grader of mathematics",
        "It is graded in a process of its own (a spawned one on all systems) with limits on time and memory: the grade "
        "is unknown and counted, the process is started anew, and threads get their own verdicts.",
    ),
    16: FailureCase(
        "Options are shown in a permuted order",
        "The order depends on the question alone: not on process, machine or `PYTHONHASHSEED`.",
    ),
    17: FailureCase(
        "Evaluation asks otherwise than training did, or begins a text twice",
        "Prompts are token ids, compared with the rows that were trained on; a second beginning is refused.",
    ),
    18: FailureCase(
        "Names and texts of others hold HTML, scripts or escape sequences",
        "No HTML is written (so there is no page to try in a browser); in the Markdown of a card no name becomes a "
        "tag, and terminals are shown escapes in letters.",
    ),
    19: FailureCase(
        "A manifest, an index or a cache names a file outside of its folder",
        "It is refused, with the name.",
    ),
    20: FailureCase(
        "A pickle with code is planted in a checkpoint or model folder",
        "It is not run: weights are safetensors, torch's three states are read by `weights_only`.",
        {"transformers": "`weights_only`, and refused below torch 2.6 (read)"},
    ),
    21: FailureCase(
        "The disk fills up",
        "What was whole stays and can be gone on from; one error says what was lost.",
    ),
    22: FailureCase(
        "Two processes write into one folder",
        "The second is refused with the first one's number, machine and time.",
    ),
    23: FailureCase(
        "Ctrl-C or SIGTERM, once and twice",
        "Once: the step is finished and a sealed checkpoint written; twice: it ends at once, and the last whole "
        "checkpoint stays.",
        {"axolotl": "Ctrl-C saves weights alone (read)"},
    ),
    24: FailureCase(
        "A run is resumed under another configuration, or on another number of ranks",
        "It is refused with every difference and the line that undoes it; a change that is meant is named, and stands "
        "in the card.",
        {"torchtitan": "an error where the number of data-parallel ranks changed (read)"},
    ),
    25: FailureCase(
        "A key of the configuration is unknown or misspelt",
        "It is refused with the nearest key, or with the line to write in the place of another trainer's word.",
        {"axolotl": "keys are checked against a schema (read)"},
    ),
    26: FailureCase(
        "There is no network, no home, no place for caches, no UTF-8, or the path has spaces and signs",
        "The run trains all the same; where nothing can be kept, the variable to set is said.",
    ),
}
