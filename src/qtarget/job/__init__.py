"""A user's run: config.yaml -> checks -> trainer -> a model with its card.

    config/            what the user wrote, where each key stands, and every key checked: a `Job`
    rows/              rows from files, directories and the hub, laid out and rendered
    build              the trainer of a `Job`
    output_folder      whether a run may write where it is told to; resume_checks: whether it may go on there
    training           `qtarget train`; announce, training_table (training_columns), training_picture: what it prints
                       and draws
    facts, card        what a trained model says about itself; beside_result: what lies beside it and is no part of it
    run_digests        what runs read, by its contents, for a folder that keeps several
    validate           `qtarget validate`; validate_view: what it prints
    weightless_checks  what a run is refused for without opening any weights
    inspection/        `qtarget inspect`
    first_config/      `qtarget init`
    cost/              `qtarget estimate`
    surroundings/      `qtarget doctor`
    teacher_cache      `qtarget teacher cache`, of an asked_model; teacher_cache_view: what it prints
    cache_dry_run      `qtarget teacher cache --dry-run`; cache_dry_run_view: what it prints
    teacher_mass       what a cache or a server leaves out of its teacher
    teacher_context    what a teacher's own prompt does
    method_pages       the methods for `qtarget methods`; method_view: what it prints; catalogue_page: the docs' tables
    merged_model       `qtarget merge`

Nothing is imported here: the command line loads what a command needs.
"""
