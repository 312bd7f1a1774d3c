"""Files that a user wrote: rows in any format, YAML, and what is said of a path that is not there."""
