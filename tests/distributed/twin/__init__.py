"""Random programs, run once on objects of one process and once on those of two."""
