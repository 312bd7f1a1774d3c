"""Rows of any form, each checked and turned into the columns that are tokenised. Begin with `open_rows`.

open_rows       the door through which all rows go
row_form        which form they have: messages, ShareGPT, Alpaca, …
column_mapping  the key `columns`, a user's own word on that
read_row        one row of any form
turns           one conversation, turn by turn
token_rows      rows that come as token ids
"""
