"""Asking a server over HTTP, with patience."""
