"""One file a format that recordings come in."""
