"""Rows of a run: read from where they are, laid out in the columns the trainer reads, made tokens.

row_chunks        rows of files in chunks of bounded size
typed_columns     columns of one type each
row_files         files as one set: whole, sampled or streamed
reading_progress  how far long reading is
splits            parts of a set, and which is advised
sources           a file, a folder or a hub name
mixtures          several sets as one
layout            the columns the trainer reads
rendering         token ids
"""
