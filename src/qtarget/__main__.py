"""`python -m qtarget`, which `accelerate launch -m qtarget` needs."""

from qtarget.cli import main

main()
