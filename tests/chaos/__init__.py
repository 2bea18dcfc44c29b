"""The shop as real processes, some of which are killed."""
