"""The cone program of a Gram fit: PSD matrices from second moments, solved by its structure and certified."""
