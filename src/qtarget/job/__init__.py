"""A user's run: config.yaml -> checks -> trainer -> a model with its card.

    config/            what the user wrote, where each key stands, and every key checked: a `Job`
    rows/              rows from files, directories and the hub, laid out and rendered
    build              the trainer of a `Job`
    output_folder      whether a run may write where it is told to; whole_checkpoints, resume_checks: where it goes on
    training           `qtarget train`; announce, training_table, training_picture: what it prints and draws
    validate           `qtarget validate`; validate_view: what it prints
    teacher_cache      `qtarget teacher cache`; teacher_cache_view: what it prints
    cache_dry_run      `qtarget teacher cache --dry-run`; cache_dry_run_view: what it prints
    teacher_mass       what a cache or a server leaves out of its teacher
    facts, card        what a trained model says about itself
    method_pages       the methods for `qtarget methods`; method_view: what it prints

Nothing is imported here: the command line loads what a command needs.
"""
