"""The doors of those in charge."""
