"""Rows of a run: read (`formats`), laid out in the columns the trainer reads (`layout`), made tokens (`rendering`)."""
