"""`qtarget search`: a race of targets."""
