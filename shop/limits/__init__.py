"""Throttling: what may be tried how often, counted over all workers."""
