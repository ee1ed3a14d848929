"""The market simulator: declared worlds, one engine, the truth attached."""
