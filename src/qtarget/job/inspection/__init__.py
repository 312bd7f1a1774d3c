"""`qtarget inspect`: a run's own rows, and what each method would train every token toward.

trained_rows      documents of the trainer's prepared data, and which of them are looked at
row_lines         where those stand in the files that they were read from
row_forward       what student, teachers and reference say about a row: one forward pass each
whole_frame       whole distributions of a few tokens, each built once for all methods
kept_memory       memory that stays with the process while rows are measured
pull              trust, scale, KL(Q‖p) and gradient of every method at each token
likeliest_tokens  the likeliest tokens of all sources, and the mass of the rest: what the page keeps
measured_rows     all of it over the chosen rows
row_audit         what is wrong with rows before any model reads them
token_kinds       digits, operators, connectives, words, ends
token_texts       tokens as texts that join to their sentence
row_evidence      statistics with intervals, and targets to pilot
inspect_job       the command, from a configuration to a `Findings`
findings          what the command found, as a program reads it
view, html_page/       on a terminal, and as a page
"""
