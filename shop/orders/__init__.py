"""Orders: placing, paying, sending, giving back."""
