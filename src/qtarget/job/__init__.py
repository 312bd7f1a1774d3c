"""A user's run: config.yaml -> checks -> trainer -> a model with its card.

    config/            what the user wrote, where each key stands, and every key checked: a `Job`
    rows/              rows from files, directories and the hub, laid out and rendered
    build              the trainer of a `Job`
    training           `qtarget train`; announce: what it prints
    validate           `qtarget validate`; validate_view: what it prints
    teacher_cache      `qtarget teacher cache`; teacher_cache_view: what it prints
    facts, card        what a trained model says about itself
    method_pages       the methods for `qtarget methods`; method_view: what it prints

Nothing is imported here: the command line loads what a command needs.
"""
