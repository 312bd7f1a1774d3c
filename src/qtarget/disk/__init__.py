"""What every room needs that writes to disk: files replaced as a whole, and folders with one writer at a time."""
