"""Whole experiments over the lab, the trainer and the evaluation."""
