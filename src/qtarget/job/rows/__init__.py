"""Rows of a run: read from where they are, laid out in the columns the trainer reads, made tokens.

named_files       files that a folder of rows names, all of which must lie in it
row_chunks        rows of files in chunks of bounded size
typed_columns     columns of one type each
row_files         files as one set: whole, sampled or streamed
reading_progress  a bar while much is read
splits            parts of a set, and which is advised
sources           a file, a folder or a hub name
mixtures          several sets as one
own_samples       rows that the student itself wrote
layout            the columns the trainer reads
rendering         token ids
"""
