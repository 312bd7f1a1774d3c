"""What a target is: statistics, rules, the catalogue of methods, and the definition of the loss. Read this first.

In order: `types`, `statistics`, `trust`, `residual`, `methods`, `loss`. Torch and the standard library only.
"""
