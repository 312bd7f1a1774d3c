"""Files that are written whole or not at all, and folders with one writer at a time."""
