"""`qtarget inspect`: from a configuration to what its rows would be trained toward."""
