"""Mail: an outbox in the database, and its delivery after the commit."""
