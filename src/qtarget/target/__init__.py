"""What a target is: statistics, rules, the catalogue of methods, and the definition of the loss. Read this first.

In order: `pool`, `rule`, `statistics`, `trust`, `slopes`, `residual`, `types`, `methods`, `loss`. It needs torch alone.
"""
