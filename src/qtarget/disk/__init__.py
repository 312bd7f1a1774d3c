"""Files that are written whole or not at all, folders with one writer at a time, and pages written in part by code."""
