"""The report as one HTML file, and its figures as files for papers."""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from common.errors import UserError
from common.files import atomic_write, write_text
from core.garbage import pause_garbage_collection
from tuning.records.provenance import collect_provenance
from tuning.reporting.report.chart import Chart, clean_text
from tuning.reporting.report.comparisons import describe_ranks
from tuning.reporting.report.html_table import HtmlTable, make_row_table
from tuning.reporting.report.read_studies import (
    LeftOut,
    RecordSource,
    ReportData,
    ReportedStudy,
    read_studies,
)
from tuning.reporting.report.sections import Section, make_section
from tuning.reporting.report.style import PANEL, apply_style
from tuning.reporting.report.svg import make_svg

FOLDER = Path(__file__).parent
PRINT_DOTS_PER_INCH = 300
FIGURE_FORMATS = ("pdf", "png")


@dataclass(frozen=True)
class ShownChart:
    """A figure as the template shows it.

    Args:
        title: Its title.
        owner: The data set or method.
        svg: The drawing.
        is_wide: Whether it may need scrolling.
        note: The sentence below it.
    """

    title: str
    owner: str
    svg: Markup
    is_wide: bool
    note: str


def make_report(sources: Sequence[RecordSource], version: str = "") -> str:
    """Return the report of all studies in some records, an HTML document.

    Args:
        sources: The records.
        version: The version of a served page, which asks for a newer one; empty for a file.

    Raises:
        UserError: If there are no studies.
    """
    # Figures make cycles by the thousand, for each of which all recorded values would be searched.
    with pause_garbage_collection(), apply_style():
        sections, data = _make_sections(_read_data(sources))
        return _render_page(sections, data, sources, version)


def save_report(sources: Sequence[RecordSource], path: Path, figures: Path | None = None) -> None:
    """Write the report of all studies in some records.

    Args:
        sources: The records.
        path: The file of the page, written first.
        figures: A folder for all figures as PDF and PNG files; each data set and method has one in
            it.

    Raises:
        UserError: If there are no studies.
    """
    with pause_garbage_collection(), apply_style():
        sections, data = _make_sections(_read_data(sources))
        write_text(path, _render_page(sections, data, sources, version=""))
        if figures is not None:
            for section in sections:
                _write_figures(section, figures / make_file_name(section.name))


def _make_sections(data: ReportData) -> tuple[list[Section], ReportData]:
    """Return the sections, and the data without the studies that none can be made of.

    Raises:
        UserError: If no study is left.
    """
    sections: list[Section] = []
    shown: dict[str, list[ReportedStudy]] = {}
    left_out = list(data.left_out)
    for number, (dataset, studies) in enumerate(data.studies.items(), start=1):
        try:
            sections.append(make_section(number, dataset, studies))
            shown[dataset] = studies
        except Exception:  # of values that no check knows: the other studies are shown
            kept = []
            for one in studies:
                try:
                    make_section(number, dataset, [one])
                    kept.append(one)
                except Exception as error:
                    reason = f"cannot be shown: {type(error).__name__}: {error}"
                    left_out.append(LeftOut(f"{one.source}: {dataset}/{one.label}", reason))
            if len(kept) == len(studies):
                raise
            if kept:
                sections.append(make_section(number, dataset, kept))
                shown[dataset] = kept
    if not sections:
        raise UserError(f"no study can be shown ({left_out[-1].where}: {left_out[-1].reason})")
    return sections, ReportData(shown, left_out)


def _write_figures(section: Section, folder: Path) -> None:
    owned = [(folder, chart) for part in section.parts for chart in part.charts]
    owned += [
        (folder / make_file_name(method.name), chart)
        for method in section.methods
        for chart in method.charts
    ]
    for place, chart in owned:
        for kind in FIGURE_FORMATS:
            with atomic_write(place / f"{make_file_name(chart.name)}.{kind}") as temporary:
                chart.figure.savefig(
                    temporary, format=kind, dpi=PRINT_DOTS_PER_INCH, facecolor="white"
                )


def make_file_name(name: str) -> str:
    """Return a name without characters that a file name cannot hold."""
    kept = "".join(c if c.isalnum() or c in "-_." else "_" for c in name).lstrip(".")
    return kept or "_"


def _read_data(sources: Sequence[RecordSource]) -> ReportData:
    data = read_studies(sources)
    if not data.studies:
        places = ", ".join(str(source.storage) for source in sources)
        first = f" ({data.left_out[0].where}: {data.left_out[0].reason})" if data.left_out else ""
        raise UserError(f"no study found in '{places}'{first}; check RESULTS or --storage")
    return data


def _render_page(
    sections: Sequence[Section], data: ReportData, sources: Sequence[RecordSource], version: str
) -> str:
    css, js = (
        Markup((FOLDER / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js")
    )
    classes: dict[str, str] = {}  # of figures, by their declarations
    draw_chart = _make_drawer(classes)
    shown = [_show_section(section, draw_chart) for section in sections]
    css += Markup("".join(f".{name}{{{text}}}\n" for text, name in classes.items()))
    names = [section.name for section in sections]
    studies = [one for found in data.studies.values() for one in found]
    return (
        make_environment()
        .get_template("page.html.j2")
        .render(
            title=f"Evenhand: {', '.join(names[:3])}{', …' if len(names) > 3 else ''}",
            policy=_make_policy(css, js, is_served=bool(version)),
            css=css,
            js=js,
            version=version,
            made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            sources=", ".join(source.name for source in sources),
            ranks=describe_ranks(
                {name: [one.summary for one in found] for name, found in data.studies.items()}
            ),
            sections=shown,
            provenance=_describe_studies(studies),
            machine=_describe_machine(studies),
            left_out=data.left_out,
        )
    )


def make_environment() -> Environment:
    """Return the environment of the page's template, which escapes all text."""
    return Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined,
        keep_trailing_newline=True, finalize=_clean_value,
    )  # fmt: skip


def _clean_value(value: object) -> object:
    """Return a value of the page without control characters; markup is the project's own."""
    return clean_text(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _make_policy(css: str, js: str, is_served: bool) -> str:
    """Return a content security policy: nothing but this page's own style and script."""
    style, script = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (css, js)
    )
    connect = "connect-src 'self'; " if is_served else ""
    return (
        f"default-src 'none'; {connect}img-src data:; style-src 'sha256-{style}'; "
        f"script-src 'sha256-{script}'; base-uri 'none'; form-action 'none'"
    )


def _show_section(section: Section, show: Callable[[Chart, str], ShownChart]) -> dict[str, object]:
    """Return a section for the template, its figures drawn."""
    return {
        "id": section.id,
        "name": section.name,
        "messages": section.messages,
        "overview": section.overview,
        "notes": section.notes,
        "parts": [
            {
                "title": part.title,
                "messages": part.messages,
                "tables": part.tables,
                "charts": [show(chart, section.name) for chart in part.charts],
            }
            for part in section.parts
        ],
        "methods": [
            {
                "id": method.id,
                "name": method.name,
                "summary": method.summary,
                "facts": method.facts,
                "commands": method.commands,
                "charts": [show(chart, method.name) for chart in method.charts],
            }
            for method in section.methods
        ],
    }


def _make_drawer(classes: dict[str, str]) -> Callable[[Chart, str], ShownChart]:
    """Return a function that draws figures with ids of their own and classes of the page."""
    numbers = iter(range(1, 10**6))

    def draw_chart(chart: Chart, owner: str) -> ShownChart:
        is_wide = chart.figure.get_figwidth() > PANEL[0]
        svg = make_svg(chart, f"f{next(numbers)}", classes)
        return ShownChart(chart.title, owner, svg, is_wide, chart.note)

    return draw_chart


def _describe_studies(studies: Sequence[ReportedStudy]) -> HtmlTable:
    rows = [
        {
            "method": one.label,
            "data set": one.study.context.dataset,
            "source": one.source,
            "data version": one.study.context.dataset_version,
            "data hash": one.study.context.data_hash,
            "search": one.study.context.search,
            "scheduler": one.study.context.scheduler,
            "trials": str(one.study.context.trials),
            "selection rule": one.study.context.rule,
            "device": one.study.context.environment.device_class,
            "precision": one.study.context.environment.precision,
            "slots": str(one.study.context.slots or "-"),
            "state": one.state,
        }
        for one in studies
    ]
    return make_row_table("studies", "The studies of this report", rows)


def _describe_machine(studies: Sequence[ReportedStudy]) -> list[tuple[str, str]]:
    found = collect_provenance()
    differs = " with uncommitted changes" if found.code_differs else ""
    return [
        ("code of this report", f"{found.commit or 'no checkout'}{differs}"),
        ("Python", found.python),
        ("packages", ", ".join(f"{name} {version}" for name, version in found.packages.items())),
        ("machine", found.machine),
        ("device-hours", f"{sum(one.study.sum_device_hours() for one in studies):.3g}"),
    ]
