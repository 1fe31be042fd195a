"""objspace."""
