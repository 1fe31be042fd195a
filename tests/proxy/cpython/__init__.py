"""CPython's own tests, over proxies that delegate every operation to a real object."""
