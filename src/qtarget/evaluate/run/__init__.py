"""One evaluation from plan to results."""
