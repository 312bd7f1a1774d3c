"""The command line: `main` and, in a file a group, the commands: arguments and wiring only.

What a command needs is imported inside its function, so that `qtarget --help` does not wait for torch.
"""
