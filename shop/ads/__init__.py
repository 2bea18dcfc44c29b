"""Ads, what is counted of them, and the sums of that."""
