"""The doors of orders and payments."""
