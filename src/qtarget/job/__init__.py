"""A user's run: config.yaml -> checks -> trainer -> a model with its card.

    yaml_file, flags, written   what the user wrote, and where
    schema, machine, config     every key checked, as a `Job`
    sources                     rows from files, directories and the hub
    build                       the trainer
    train, validate             the run, and the rehearsal of a run
    facts, card                 what the result says about itself
    catalogue                   the methods, as a table and one by one

Nothing is imported here: the command line loads what a command needs.
"""
