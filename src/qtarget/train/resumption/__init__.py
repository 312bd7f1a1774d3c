"""Checkpoints that are sealed, and runs that go on from them as the same run.

    sealed_run           a run that begins or goes on, and seals what it writes
    run_identity         what a run is: everything that decides the weights it ends with, by name
    identity_now         the same of a trainer that may have trained before
    model_settings       what of a model's configuration decides what it computes
    own_code             what functions and objects of a user's own hold, down to their code
    code_of_run          which functions and objects of a run are compared so, and which are only named
    run_history          which steps were run as what, and how two identities differ
    other_runs           which checkpoints and results are of another run than the one that goes on
    branches             which checkpoints were left by a run that went back behind them
    whole_checkpoints    which checkpoints of a folder are whole, and what is wrong with the others
    set_aside            checkpoints whose places others were taking when the process was killed
    resuming             whether a run may go on from a checkpoint
    pruning              which old checkpoints go

A checkpoint is sealed by `qtarget.disk.seal`: its manifest holds every file's size and sha256, and the run's history.
"""
