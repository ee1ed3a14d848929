"""Features of books, trades and days: what a fit or a policy may know."""
