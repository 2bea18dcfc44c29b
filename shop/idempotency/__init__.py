"""Requests that may be sent twice and have one effect: the keys that clients give them."""
