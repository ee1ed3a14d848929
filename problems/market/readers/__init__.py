"""Readers: one module per format, from files to market data."""
