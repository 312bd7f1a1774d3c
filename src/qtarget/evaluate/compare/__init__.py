"""Evaluated models compared on the same questions."""
