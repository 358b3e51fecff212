"""Figures as SVG elements of a page: small, without styles of their own, in the page's colors."""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from xml.etree import ElementTree as ET

from markupsafe import Markup

from tuning.reporting.report.chart import Chart, clean_text
from tuning.reporting.report.style import CELLS, ROLES

SVG = "{http://www.w3.org/2000/svg}"
LINK = "{http://www.w3.org/1999/xlink}href"
DECIMALS = re.compile(r"-?\d*\.\d{2,}")
GEOMETRY = ("d", "x", "y", "transform", "width", "height", "points", "cx", "cy", "r", "rx", "ry")
MARKS = (f"{SVG}use", f"{SVG}path")
# The defaults of SVG and of a page, which need not be written.
DEFAULTS = {
    ("stroke-opacity", "1"),
    ("fill-opacity", "1"),
    ("opacity", "1"),
    ("text-anchor", "start"),
}
FONT_SIZE = re.compile(r"([\d.]+)px")
REFERENCE = re.compile(r"#([\w.-]+)")


def make_svg(chart: Chart, prefix: str) -> Markup:
    """Return a figure as an SVG element without styles, scripts and foreign names.

    Args:
        chart: The figure.
        prefix: Begins all ids in it, which are unique in a page then.
    """
    written = io.BytesIO()
    chart.figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    root = ET.fromstring(written.getvalue())
    _add_hints(root, chart.hints)
    _drop_elements(root)
    used = {found for e in root.iter() for v in e.attrib.values() for found in REFERENCE.findall(v)}
    for element in root.iter():
        _simplify_element(element, prefix, used)
    width, height = (
        float(root.attrib.pop(name).removesuffix("pt")) for name in ("width", "height")
    )
    _drop_empty_groups(root)
    for element in root.iter():  # a page knows SVG elements by their names alone
        element.tag = element.tag.removeprefix(SVG)
    pixels = 4 / 3  # of a point
    root.set("width", f"{width * pixels:.0f}")
    root.set("height", f"{height * pixels:.0f}")
    root.set("role", "img")
    root.set("aria-label", f"{clean_text(chart.title)}. {clean_text(chart.description)}")
    root.set("focusable", "false")
    return Markup(ET.tostring(root, encoding="unicode"))


def _add_hints(root: ET.Element, hints: Mapping[str, Sequence[str]]) -> None:
    """Give marks titles, which browsers show under the pointer."""
    groups = {element.get("id", ""): element for element in root.iter(f"{SVG}g")}
    for name, texts in hints.items():
        if name in groups:
            for mark, text in zip(_find_marks(groups[name]), texts, strict=False):
                title = ET.SubElement(mark, f"{SVG}title")
                title.text = clean_text(text)


def _find_marks(group: ET.Element) -> Iterator[ET.Element]:
    """Yield the marks of an artist, without the definitions that they use."""
    for child in group:
        if child.tag in MARKS:
            yield child
        elif child.tag == f"{SVG}g":
            yield from _find_marks(child)


def _drop_elements(root: ET.Element) -> None:
    """Remove metadata, styles, and the empty background."""
    for parent in list(root.iter()):
        for child in list(parent):
            is_background = child.get("id") == "patch_1"
            if child.tag in (f"{SVG}metadata", f"{SVG}style") or is_background:
                parent.remove(child)


def _drop_empty_groups(root: ET.Element) -> None:
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{SVG}g", f"{SVG}defs") and not len(child) and not child.text:
                parent.remove(child)


def _simplify_element(element: ET.Element, prefix: str, used: set[str]) -> None:
    """Round numbers, turn styles into attributes, and make ids unique."""
    attributes = element.attrib
    element.tail = None
    if element.tag not in (f"{SVG}text", f"{SVG}title", f"{SVG}tspan"):
        element.text = None
    if (name := attributes.pop("id", None)) in used:
        attributes.update({"id": f"{prefix}-{name}"})
    if name == CELLS:
        attributes.update({"shape-rendering": "crispEdges"})  # no seams between cells
    if (link := attributes.pop(LINK, None)) is not None:
        attributes.update({"href": f"#{prefix}-{link.removeprefix('#')}"})
    if (clip := attributes.get("clip-path")) is not None:
        attributes.update({"clip-path": clip.replace("#", f"#{prefix}-")})
    for declaration in filter(None, map(str.strip, attributes.pop("style", "").split(";"))):
        name, _, value = declaration.partition(":")
        attributes.update(_convert_declaration(name.strip(), value.strip(), prefix))
    for name in ("fill", "stroke"):
        if (role := ROLES.get(attributes.get(name, ""))) is not None:
            attributes[name] = f"var(--{role})"
    if attributes.get("transform", "").startswith("rotate(-0 "):
        attributes.pop("transform")
    for name in GEOMETRY:
        if name in attributes:
            attributes[name] = _round_numbers(attributes[name])


def _convert_declaration(name: str, value: str, prefix: str) -> dict[str, str]:
    """Return the attributes that a style declaration means."""
    if name == "font":
        size = FONT_SIZE.search(value)
        bold = {"font-weight": "bold"} if value.startswith(("700", "bold")) else {}
        return {"font-size": f"{float(size[1]):g}", **bold} if size else bold
    if value.startswith("url(#"):
        return {name: value.replace("#", f"#{prefix}-")}
    if name.startswith("-") or (name, value) in DEFAULTS:
        return {}
    role = ROLES.get(value.lower())
    return {name: f"var(--{role})" if role else _round_numbers(value)}


def _round_numbers(text: str) -> str:
    rounded = DECIMALS.sub(lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), text)
    return " ".join(rounded.split())
