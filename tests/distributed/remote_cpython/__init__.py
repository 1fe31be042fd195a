"""CPython's own tests, over objects of another process, reached by TCP."""
