"""Payment providers: one small interface, a file for each."""
