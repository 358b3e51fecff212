"""The study: check, search, select, confirm, export."""
