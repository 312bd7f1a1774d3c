"""The fast twin of `target.loss`: the same loss from hidden states, in chunks, without ever building the logits.

Nobody needs it to know what a target is.
"""
