"""Recipients and templates into mail objects. Pure: sources, bytes, seed and date are handed in."""
