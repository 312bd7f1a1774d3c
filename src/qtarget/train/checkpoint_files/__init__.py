"""A checkpoint is written whole or not at all, and looked at before it is read.

    checkpoint_writer    one checkpoint: drafted, sealed, given its name, and the old ones pruned
    rank_faults          what went wrong on any rank while files were written, told to all
    best_so_far          which checkpoint was the best before one that could not be written
    callback_states      what callbacks counted, given back to a run that goes on
    hub_push             what stands in the output directory when a checkpoint is pushed
    checkpoint_pickles   the pickles of a checkpoint, looked at before they are read
    checkpoint_weights   the weights of a checkpoint, read into a model that keeps its types
    stream_place         where in a data set without a length a checkpoint stopped

What a checkpoint says of the run that wrote it, and which of them a run goes on from, is `qtarget.train.resumption`'s.
"""
