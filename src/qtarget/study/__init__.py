"""Whole experiments, through the trainer and the evaluation that users get.

fine_tuning, scoring        a student of the lab fine-tuned, and scored
kept_outcomes               what a run gave, kept as JSON
own_commands                `qtarget train`, `eval` and `teacher` as processes, with what each cost
launcher_words              what a launcher says of how one of its processes ended
quiet                       libraries that print nothing
demo/                       `qtarget demo`
tuned/                      `qtarget study`: every method tuned alike, in thirteen settings
real_models/                `qtarget study-real`: pre-trained models and real rows
"""
