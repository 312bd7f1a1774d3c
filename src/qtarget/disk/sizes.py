"""Sizes of files in words."""


def in_bytes(size: float) -> str:
    """Bytes in decimal units, with one digit behind the point from a tenth of a megabyte on.

    >>> [in_bytes(size) for size in (0, 999, 97_400, 512_300, 28_700_000, 34_500_000_000)]
    ['0 bytes', '999 bytes', '97.4 kB', '0.5 MB', '28.7 MB', '34.5 GB']
    """
    if size >= 1e9:
        return f"{size / 1e9:,.1f} GB"
    if size >= 1e5:
        return f"{size / 1e6:.1f} MB"
    return f"{size / 1e3:.3g} kB" if size >= 1000 else f"{size:.0f} bytes"
