"""Whole experiments on the lab, through the trainer and the evaluation that users get.

experiment, fine_tuning     one run: a student fine-tuned and scored
scoring, run_record         the score; the run and its outcome, kept as JSON
demo, picture               `qtarget demo`
miniature/                  `qtarget study`: the paper's ten settings in miniature
"""
