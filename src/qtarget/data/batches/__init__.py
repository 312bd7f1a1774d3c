"""Rows of tokens on their way to batches: counted, checked against the model, cut, packed and laid out.

row_counts  how many rows and tokens are trained on, and what became of the others
token_ids   token ids that the model has no embedding for
positions   rows that are longer than the model has positions
packing     truncation and packing of all per-token columns
collate     batches
"""
