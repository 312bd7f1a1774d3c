"""Whole experiments on the lab, through the trainer and the evaluation that users get.

experiment, fine_tuning     one run: a student fine-tuned, scored, kept on disk
demo, picture               `qtarget demo`
miniature/                  `qtarget study`: the paper's ten settings in miniature
pages                       tables of Markdown pages, written by the code that measured them
"""
