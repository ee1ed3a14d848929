"""One file per backend; nothing here is imported before a solve asks for it."""
