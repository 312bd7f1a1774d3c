"""What a user wrote, checked: a file of keys, flags over it, and the `Job` they make."""
