"""`python -m qtarget`, which `accelerate launch -m qtarget` needs."""

from qtarget.cli.main import main

main()
