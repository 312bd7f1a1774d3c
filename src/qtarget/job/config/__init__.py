"""A configuration, read and checked: a YAML file and the flags over it become a `Job` (`checked_job`)."""
