"""The paper's ten settings (arXiv 2606.11189) as recipes, in which every value has its source.

files/                          the recipes, as YAML; schema: what they may hold
recipe_files, resolve           the files read, and put together to each arm's configuration
changes                         models, keys and questions of a user's own in their place
estimates                       bytes and hours, by formula; view: what `recipes list` and `show` print
run_options, run_recipe         `recipes run`; table: what it prints
parity                          the check that training asks as evaluation does
launch                          the lines for several GPUs
dry, tiny                       dry runs, with tiny random models
"""
