"""A hostile client, and a server that must not be harmed by it."""
