"""Files written whole or not at all, sealed folders, folders with one writer at a time, pages that code fills in."""
