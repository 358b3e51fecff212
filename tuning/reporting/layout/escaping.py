"""Text of data, YAML files and error messages, made harmless where tables are shown."""

import re
import unicodedata

# By which spreadsheets know a formula, also in full width.
FORMULA_STARTS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
LINE_BREAKS = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029\t]+\s*")
# Markdown: what ends a cell, begins a tag, an entity, a link, code or emphasis.
SPECIAL = re.compile(
    r"[\\|`*~]|<(?=[A-Za-z/!?])|&(?=#?\w+;)|\](?=[(\[:])|!(?=\[)|(?<![^\W_])_|_(?![^\W_])"
)


def show_control_characters(text: str) -> str:
    """Return text in one line, with control and direction characters as their numbers.

    Marks of the writing direction reorder the text around them, and control characters act on
    terminals.
    """
    line = LINE_BREAKS.sub(" ", text)
    return "".join(
        f"<U+{ord(character):04X}>" if _is_control(character) else character for character in line
    )


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn")


def escape_markdown(text: str) -> str:
    """Return text for a cell or a paragraph of Markdown, which shows as it is."""
    return SPECIAL.sub(r"\\\g<0>", show_control_characters(text))


def protect_formula(text: str) -> str:
    """Return text of a CSV cell, with an apostrophe before what a spreadsheet would compute.

    Numbers stay as they are, also those in texts.
    """
    stripped = text.lstrip(" ")
    if not stripped.startswith(tuple(FORMULA_STARTS)):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
