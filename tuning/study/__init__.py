"""A study: check, search, select, confirm, export."""
