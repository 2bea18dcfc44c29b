"""A headless shop whose changes and events commit together or not at all."""

from shop.app import create_app

__all__ = ["create_app"]
