"""Contract terms, expiries, sessions and funding times, by version."""
