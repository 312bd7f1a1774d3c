"""A user's run: config.yaml -> checks -> trainer -> a model with its card.

    yaml_file, flags   what the user wrote, and where
    config             every key checked, as a `Job`
    sources            models and data: files, directories, hub names
    build              the trainer
    train, validate    the run, and the rehearsal of a run
    card, facts        what the result says about itself
    catalogue          the methods, as a table and one by one

Nothing is imported here: the command line loads what a command needs.
"""
