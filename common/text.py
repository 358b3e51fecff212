"""Wording of messages."""


def format_count(count: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is one."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
