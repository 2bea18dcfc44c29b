"""The benchmark: the shop against a hand-written twin of it, over the same tables. `make bench`."""
