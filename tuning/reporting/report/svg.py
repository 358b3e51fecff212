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
# Written once a page, as a class; patterns are of one figure alone.
SHARED = (
    "fill", "fill-opacity", "font-size", "font-weight", "opacity", "stroke", "stroke-dasharray",
    "stroke-linecap", "stroke-linejoin", "stroke-opacity", "stroke-width", "text-anchor",
)  # fmt: skip
# The defaults of SVG and of a page, which need not be written.
DEFAULTS = {
    ("stroke-opacity", "1"),
    ("fill-opacity", "1"),
    ("opacity", "1"),
    ("text-anchor", "start"),
}
FONT_SIZE = re.compile(r"([\d.]+)px")
REFERENCE = re.compile(r"#([\w.-]+)")
CURVES = re.compile(r"[A-KN-Yac-y]")  # commands of a path other than moves, lines and its end


def make_svg(chart: Chart, prefix: str, classes: dict[str, str]) -> Markup:
    """Return a figure as an SVG element without scripts and foreign names.

    Args:
        chart: The figure.
        prefix: Begins all ids in it, which are unique in a page then.
        classes: The page's classes by their style declarations; new ones are added.
    """
    written = io.BytesIO()
    chart.figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    root = ET.fromstring(written.getvalue())
    _add_hints(root, chart.hints)
    _drop_elements(root)
    used = [found for e in root.iter() for v in e.attrib.values() for found in REFERENCE.findall(v)]
    ids = {name: f"{prefix}-{number}" for number, name in enumerate(dict.fromkeys(used))}
    for element in root.iter():
        _simplify_element(element, ids)
        _share_declarations(element, classes)
    width, height = (
        float(root.attrib.pop(name).removesuffix("pt")) for name in ("width", "height")
    )
    _drop_empty_groups(root)
    _drop_plain_groups(root)
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


def _drop_plain_groups(root: ET.Element) -> None:
    """Put the children of groups without attributes in their place."""
    for parent in root.iter():
        while plain := [i for i, e in enumerate(parent) if e.tag == f"{SVG}g" and not e.attrib]:
            for index in reversed(plain):
                parent[index : index + 1] = list(parent[index])


def _share_declarations(element: ET.Element, classes: dict[str, str]) -> None:
    """Replace the attributes of an element's style by a class of the page."""
    found = {n: v for n in SHARED if not (v := element.get(n, "url(")).startswith("url(")}
    if found:
        for name in found:
            element.attrib.pop(name)
        declarations = ";".join(f"{name}:{value}" for name, value in found.items())
        element.set("class", classes.setdefault(declarations, f"s{len(classes)}"))


def _simplify_element(element: ET.Element, ids: Mapping[str, str]) -> None:
    """Round numbers, turn styles into attributes, and make ids short and unique in the page."""
    attributes = element.attrib
    element.tail = None
    if element.tag not in (f"{SVG}text", f"{SVG}title", f"{SVG}tspan"):
        element.text = None
    if (name := attributes.pop("id", "")) in ids:
        attributes.update({"id": ids[name]})
    if name == CELLS:
        attributes.update({"shape-rendering": "crispEdges"})  # no seams between cells
    if (link := attributes.pop(LINK, None)) is not None:
        attributes.update({"href": _replace_ids(link, ids)})
    if (clip := attributes.get("clip-path")) is not None:
        attributes.update({"clip-path": _replace_ids(clip, ids)})
    for declaration in filter(None, map(str.strip, attributes.pop("style", "").split(";"))):
        name, _, value = declaration.partition(":")
        attributes.update(_convert_declaration(name.strip(), value.strip(), ids))
    for name in ("fill", "stroke"):
        if (role := ROLES.get(attributes.get(name, ""))) is not None:
            attributes[name] = f"var(--{role})"
    if attributes.get("transform", "").startswith("rotate(-0 "):
        attributes.pop("transform")
    for name in GEOMETRY:
        if name in attributes:
            attributes[name] = _round_numbers(attributes[name])
    if not CURVES.search(path := attributes.get("d", "C")):
        attributes.update({"d": path.replace("L ", "")})  # what follows a move are lines


def _replace_ids(text: str, ids: Mapping[str, str]) -> str:
    return REFERENCE.sub(lambda found: f"#{ids[found[1]]}", text)


def _convert_declaration(name: str, value: str, ids: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes that a style declaration means."""
    if name == "font":
        size = FONT_SIZE.search(value)
        bold = {"font-weight": "bold"} if value.startswith(("700", "bold")) else {}
        return {"font-size": f"{float(size[1]):g}", **bold} if size else bold
    if value.startswith("url(#"):
        return {name: _replace_ids(value, ids)}
    if name.startswith("-") or name == "font-family" or (name, value) in DEFAULTS:
        return {}
    role = ROLES.get(value.lower())
    return {name: f"var(--{role})" if role else _round_numbers(value)}


def _round_numbers(text: str) -> str:
    rounded = DECIMALS.sub(lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), text)
    return " ".join(rounded.split())
