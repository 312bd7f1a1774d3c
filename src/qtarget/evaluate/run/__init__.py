"""One evaluation: its `plan`, checked by `prepare`, run by `conduct`, which calls `draw`, `grade` and `results`."""
