"""`qtarget sample`, and the rounds of `qtarget train`: a model's own words as rows to train on.

sampled_prompts     the prompts of rows, as the student is trained on them; right_answers: what their answers should be
prepare_sampling    what is drawn, from whom and how, checked before it is drawn
kept_samples        which samples become rows, what these weigh, and who wrote them
run_sampling        the command; view: what it prints
round_configs       the configurations of a round's commands
rounds_plan         what rounds are, with digests of what they read
run_rounds          rounds of sampling, asking the teacher and training; rounds_outcome: what each came to
"""
