"""What is wrong with a row, in words, and what becomes of rows that are bad.

faults      a row's fault: what is there, where, and what to do about it
row_places  the file that a row stands in, and its number there
sift        every row looked at: bad ones are refused, or left out and counted
"""
