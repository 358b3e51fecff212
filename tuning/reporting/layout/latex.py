"""Tables in LaTeX: they need the package booktabs, and fit a one-column article.

Numbers of a column are aligned at the point by phantoms, the best of a column is bold, and what a
test does not distinguish from it has an asterisk.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tuning.reporting.intervals import CONFIDENCE
from tuning.reporting.layout.columns import Column, pack_columns
from tuning.reporting.layout.escaping import show_control_characters
from tuning.reporting.layout.printed_table import PrintedTable

TEXT_WIDTH = 345.0  # points: \textwidth of the class article at 10pt
GAP = 8.0  # points between columns, twice \tabcolsep
MAX_ROWS = 36  # of all parts of a float; more are split
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:e[+-]\d+)?")
UNSAFE = re.compile(r"[^\w.-]")  # in a label
# Upper bounds of the widths of Computer Modern at 8pt, in points, by the characters that have them.
NARROW, WIDE = " .,;:|!'ijltfIr()[]-", "mwMWQ@%+<>=/"
NARROW_POINTS, WIDE_POINTS, UPPER_POINTS, OTHER_POINTS = 3.4, 7.5, 6.5, 4.8
WIDTHS = {"±": 10.6}
UNIT = " (%)"
ARROW = 7.5  # of a direction and the space before it
ASTERISK = 4.5
LONG_WORD = 16  # characters; longer words may break
PARAGRAPH = 120.0  # of a column of long texts, whose lines break
SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": "$<$", ">": "$>$", "|": "$|$", "±": r"$\pm$", "…": r"\dots{}",
    "-": "-", "[": "{[}", "*": "{*}", **{character: "\\" + character for character in "{}$&%#_"},
}  # fmt: skip


def format_latex(table: PrintedTable) -> str:
    """Return a table as one float, or as several where it is too long for a page."""
    first = max(map(_measure_text, [table.row_head, *table.names])) + GAP
    parts = pack_columns(table.columns, _measure_column, first, TEXT_WIDTH)
    for details in table.details:
        parts += pack_columns(details.columns, _measure_column, first, TEXT_WIDTH, balanced=True)
    tabulars = [_format_tabular(table, part) for part in parts]
    caption = f"{escape_latex(table.title)}.{_explain_marks([c for part in parts for c in part])}"
    notes = "\n\n".join(escape_latex(note, breaks=True) for note in table.notes)
    below = [r"\par\smallskip\raggedright\scriptsize", notes] if notes else []
    if len(table.names) * len(tabulars) <= MAX_ROWS:
        body = "\n\n\\medskip\n".join(tabulars)
        return _format_float(table.label, caption, [body, *below])
    floats = [
        _format_float(
            f"{table.label}-{number}" if number > 1 else table.label,
            caption if number == 1 else f"{escape_latex(table.title)}, continued.",
            [tabular],
        )
        for number, tabular in enumerate(tabulars, start=1)
    ]
    return "\n".join([*floats, r"\begin{table}[tp]", *below, r"\end{table}", ""])


def escape_latex(text: str, breaks: bool = False) -> str:
    """Return text with LaTeX's special characters escaped.

    Args:
        text: The text.
        breaks: Whether lines may break inside long words.
    """
    shown = show_control_characters(text)  # an empty line would end a caption
    escaped = "".join(SPECIAL.get(character, character) for character in shown)
    if breaks:
        escaped = " ".join(
            re.sub(r"([/=]|\\_)", r"\1\\allowbreak{}", word) if len(word) > LONG_WORD else word
            for word in escaped.split(" ")
        )
    return escaped.replace("$>$=", r"$\ge$").replace("$<$=", r"$\le$")


def _format_float(label: str, caption: str, body: Sequence[str]) -> str:
    return "\n".join(
        [
            r"\begin{table}[tp]",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\label{{tab:{UNSAFE.sub('-', label)}}}",
            r"\footnotesize\setlength{\tabcolsep}{4pt}",
            *body,
            r"\end{table}",
            "",
        ]
    )


def _explain_marks(columns: Sequence[Column]) -> str:
    words = ""
    if any(column.best for column in columns):
        words += " Bold: the best of a column."
    if any(column.tied for column in columns):
        level = f"{1 - CONFIDENCE:.2g}"
        words += rf" $^\ast$: not distinguishable from it (corrected t-test, $p \ge {level}$)."
    return words


def _format_tabular(table: PrintedTable, columns: Sequence[Column]) -> str:
    heads = [("", table.row_head), *(column.head for column in columns)]
    arrows = [None, *(column.higher_is_better for column in columns)]
    units = [False, *(_has_unit(column) for column in columns)]
    named = [False, *(column.is_name for column in columns)]
    lines = [
        " & ".join(
            escape_latex(head[0]) if own else _capitalize(escape_latex(head[0]))
            for head, own in zip(heads, named, strict=True)
        ),
        " & ".join(
            _format_head(head, up, unit)
            for head, up, unit in zip(heads, arrows, units, strict=True)
        ),
    ]
    cells = [_format_cells(column) for column in columns]
    rows = [
        " & ".join([escape_latex(name), *(column[row] for column in cells)])
        for row, name in enumerate(table.names)
    ]
    return "\n".join(
        [
            rf"\begin{{tabular}}{{l{_list_alignments(columns)}}}",
            r"\toprule",
            *(rf"{line} \\" for line in lines[0 if any(head[0] for head in heads) else 1 :]),
            r"\midrule",
            *(rf"{row} \tabularnewline" for row in rows),  # cells of texts redefine \\
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _list_alignments(columns: Sequence[Column]) -> str:
    return "".join(
        "r" if _has_numbers(column) else f"p{{{PARAGRAPH:g}pt}}" if _is_long(column) else "l"
        for column in columns
    )


def _has_numbers(column: Column) -> bool:
    """Return whether the cells are numbers, with deviations or as intervals, and not words."""
    forms = {NUMBER.sub("#", cell) for cell in column.cells if NUMBER.search(cell)}
    return bool(forms) and not any(re.sub(r"[#±\[\],% ]", "", form) for form in forms)


def _is_long(column: Column) -> bool:
    return not _has_numbers(column) and max(map(_measure_text, column.cells)) > PARAGRAPH


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]


def _has_unit(column: Column) -> bool:
    """Return whether the cells are in percent, which the head says once."""
    return _has_numbers(column) and any("%" in cell for cell in column.cells)


def _format_head(head: tuple[str, str], higher_is_better: bool | None, unit: bool) -> str:
    text = escape_latex(head[1] + (UNIT if unit else ""))
    text = text if head[0] else _capitalize(text)
    if higher_is_better is None:
        return text
    return rf"{text} $\{'up' if higher_is_better else 'down'}arrow$"


def _format_cells(column: Column) -> list[str]:
    """Return the cells of a column, numbers aligned and marked."""
    if _is_long(column):
        texts = [escape_latex(cell, breaks=True) for cell in column.cells]
        return [rf"\raggedright {text}" for text in texts]
    if not _has_numbers(column):
        return [escape_latex(cell) for cell in column.cells]
    cells = [cell.replace("%", "") for cell in column.cells]
    form = max((NUMBER.sub("#", cell) for cell in cells), key=len)
    found = [NUMBER.findall(cell) for cell in cells]
    sizes = [
        _find_sizes([numbers[i] for numbers in found if len(numbers) > i])
        for i in range(form.count("#"))
    ]
    return [
        _format_cell(numbers, form, sizes, row in column.best, row in column.tied)
        if numbers else "--"
        for row, numbers in enumerate(found)
    ]  # fmt: skip


@dataclass(frozen=True)
class _Sizes:
    """The widths of the numbers of a column, or of their deviations.

    Args:
        signed: Whether a number has a sign.
        digits: The most digits before the point.
        decimals: The most digits after it.
        longest: A longest number.
    """

    signed: bool
    digits: int
    decimals: int
    longest: str

    def pad_before(self, number: str) -> str:
        """Return the phantoms before a number, which align its point."""
        missing = self.digits - len(number.lstrip("+-").partition(".")[0])
        sign = r"\phantom{-}" if self.signed and number[0] not in "+-" else ""
        return r"\phantom{0}" * missing + sign

    def pad_after(self, number: str) -> str:
        """Return the phantoms behind a number with fewer decimals than others."""
        decimals = len(number.partition(".")[2])
        point = r"\phantom{.}" if self.decimals and not decimals else ""
        return point + r"\phantom{0}" * (self.decimals - decimals)


def _find_sizes(numbers: Sequence[str]) -> _Sizes:
    """Return the widths of numbers; those with an exponent count before the point only."""
    parts = [number.lstrip("+-").partition(".") for number in numbers]
    return _Sizes(
        signed=any(number[0] in "+-" for number in numbers),
        digits=max(len(digits) for digits, _, _ in parts),
        decimals=max(0 if "e" in decimals else len(decimals) for _, _, decimals in parts),
        longest=max(numbers, key=len),
    )


def _format_cell(
    numbers: Sequence[str],
    form: str,
    sizes: Sequence[_Sizes],
    is_best: bool,
    is_tied: bool,
) -> str:
    padded = []
    for position, (number, size) in enumerate(zip(numbers, sizes, strict=False)):
        shown = rf"\mathbf{{{number}}}" if is_best and position == 0 else number
        padded.append(f"{size.pad_before(number)}{shown}{size.pad_after(number)}")
    if len(numbers) == len(sizes):
        text = _fill_form(form, padded)
    else:  # a mean without a deviation, or without an interval
        pieces = form.split("#")
        own, missing_form = (
            "#".join(part) for part in (pieces[: len(numbers)], pieces[len(numbers) :])
        )
        rest = [size.longest for size in sizes[len(numbers) :]]
        text = _fill_form(f"{own}#", padded)
        text += rf"\phantom{{{{}}{_fill_form(missing_form, rest)}}}"
    mark = r"^{\ast}" if is_tied else ""
    return f"${text}$" + (rf"\rlap{{${mark}$}}" if mark else "")


def _fill_form(form: str, numbers: Sequence[str]) -> str:
    """Return a form such as ``# ± #`` with its numbers."""
    texts = [*numbers, ""]
    parts = form.replace("±", r"\pm").split("#")
    return parts[0] + "".join(texts[i] + part for i, (_, part) in enumerate(pairwise(parts)))


def _measure_text(text: str) -> float:
    return sum(_measure_character(character) for character in text)


def _measure_character(character: str) -> float:
    if character in WIDTHS:
        return WIDTHS[character]
    if character in NARROW:
        return NARROW_POINTS
    if character in WIDE:
        return WIDE_POINTS
    return UPPER_POINTS if character.isupper() else OTHER_POINTS


def _measure_column(column: Column) -> float:
    arrow = 0.0 if column.higher_is_better is None else ARROW
    mark = ASTERISK if column.tied else 0.0
    last = column.head[1] + (UNIT if _has_unit(column) else "")
    heads = max(_measure_text(column.head[0]), _measure_text(last) + arrow)
    cells = max(map(_measure_text, column.cells))
    return max(heads, PARAGRAPH if _is_long(column) else cells) + mark + GAP
