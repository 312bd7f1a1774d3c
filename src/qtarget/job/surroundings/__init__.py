"""`qtarget doctor`: whether a run would work on this machine.

observation  what was looked at, and whether it is fine
examine      everything, in order
libraries    versions beside those that were tested, and the extras
devices      processors, memory, and the precisions that work there
disks        room and speed where runs and caches go
trial        TRL's private parts, and one step of training
view         what is printed

Libraries are imported inside functions: what is missing or too old is what it is to find.
"""
