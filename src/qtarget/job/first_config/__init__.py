"""`qtarget init`: a first configuration, chosen by what model, rows and machine are, with a reason for every key.

run_facts        the model without its weights, and the rows as they would be trained on
key_choices      what is written for each key, and why
commented_yaml   the text of the file
write_config     from a command's flags to the file
"""
