"""Whole experiments on the lab, through the trainer and the evaluation that users get.

fine_tuning, scoring        a student fine-tuned, and scored
experiment, run_record      one run of the demo; the run and its outcome, kept as JSON
own_commands                `qtarget train`, `eval` and `teacher` as processes, with what each cost
demo, picture               `qtarget demo`
tuned/                      `qtarget study`: every method tuned alike, in thirteen settings
real_models/                `qtarget study-real`: pre-trained models and real rows
"""

import logging

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of a kernel that nothing here calls
