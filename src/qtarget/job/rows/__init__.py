"""Rows of a run: read from files, laid out, rendered."""
