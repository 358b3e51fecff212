"""The report: text does not break out of it, damaged records are named, figures are small."""

import json
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from common.errors import UserError
from tests.support.study_records import StudyNames, write_studies
from tests.tuning.reporting.report.conftest import GROUPS, HOSTILE
from tuning.cli.main import main
from tuning.records.open_storage import open_storage
from tuning.reporting.report.chart import Chart, clean_text, shorten_name
from tuning.reporting.report.html_table import make_row_table
from tuning.reporting.report.read_studies import RecordSource, read_studies
from tuning.reporting.report.serve import ReportServer, compute_version
from tuning.reporting.report.style import (
    ROLES,
    SERIES,
    SURFACE,
    apply_style,
    choose_styles,
    make_panel,
)
from tuning.reporting.report.svg import make_svg
from tuning.reporting.report.write_report import FOLDER, make_environment, make_report


class Elements(HTMLParser):
    """Collects elements, attributes and texts of a document."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def parse(text: str) -> Elements:
    found = Elements()
    found.feed(text)
    found.close()
    return found


def check_harmless(found: Elements) -> None:
    names = {name for name, _ in found.attributes}
    assert not [name for name in names if name.startswith("on") or name in ("style", "src")]
    links = [value for name, value in found.attributes if name in ("href", "xlink:href")]
    assert all(value.startswith(("#", "data:,")) for value in links)


def test_no_text_breaks_out_of_the_page(page: str) -> None:
    found = parse(page)
    check_harmless(found)
    assert found.tags.count("script") == 1
    assert found.tags.count("style") == 1
    assert not {"img", "iframe", "object", "form"} & set(found.tags)
    for name in (*HOSTILE, GROUPS.dataset):
        assert clean_text(name) in found.text  # it is shown as it is
    assert "\u202e" not in page
    assert "49" not in [part.strip() for part in re.findall(r">([^<]*)<", page)]  # no template


def test_the_policy_admits_this_pages_style_and_script_alone(page: str) -> None:
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src &#39;none&#39;;") or policy.startswith(
        "default-src 'none';"
    )
    assert "unsafe" not in policy
    assert "connect-src" not in policy


@given(st.lists(st.text(max_size=30), min_size=2, max_size=5))
def test_tables_hold_any_text(texts: Sequence[str]) -> None:
    made = make_row_table("t", texts[0], [dict.fromkeys(texts, text) for text in texts])
    parts = make_environment().get_template("parts.html.j2").module
    found = parse(str(parts.table(made)))  # type: ignore[attr-defined]
    check_harmless(found)
    assert set(found.tags) <= {
        "div", "table", "caption", "thead", "tbody", "tr", "th", "td", "button", "bdi"
    }  # fmt: skip


@settings(max_examples=10)
@given(st.text(max_size=40), st.sampled_from(HOSTILE))
@example("_", HOSTILE[0])
def test_figures_hold_any_text(text: str, hostile: str) -> None:
    with apply_style():
        figure, axes = make_panel("x", "y")
        axes.plot([0, 1], [0, 1], marker="o", label=shorten_name(text + hostile), gid="line")
        axes.legend()
        chart = Chart("name", text, hostile, figure, {"line": [text, hostile, text]})
        found = parse(make_svg(chart, "a", {}))
    check_harmless(found)
    assert set(found.tags) <= {"svg", "g", "path", "use", "defs", "clippath", "rect", "text",
                               "title", "tspan"}  # fmt: skip


def test_hatches_of_two_figures_of_a_page_are_their_own() -> None:
    classes: dict[str, str] = {}
    with apply_style():
        for prefix, color in (("a", SERIES[0]), ("b", SERIES[1])):
            figure, axes = make_panel("x", "y")
            axes.barh([0], [1.0], hatch="////", color=color, edgecolor=SURFACE)
            text = make_svg(Chart("name", "title", "text", figure), prefix, classes)
            patterns = re.findall(r'<pattern [^>]*id="([^"]*)"', text)
            assert len(patterns) == 1
            assert text.count(f'fill="url(#{patterns[0]})"') == 1
            found = parse(text).attributes
            used = {name for _, v in found for name in re.findall(r"#([\w.-]+)", v)}
            ids = {value for name, value in found if name == "id"}
            assert patterns[0] in used <= ids
            assert all(name.startswith(f"{prefix}-") for name in ids)
    assert not any("url(" in declarations for declarations in classes)


def test_figures_take_the_colors_of_the_page(page: str) -> None:
    css = (FOLDER / "page.css").read_text(encoding="utf-8")
    schemes = list(css.split(":root {")[1:])
    assert len(schemes) == 3  # light, dark, print
    for role in ROLES.values():
        assert all(f"--{role}:" in scheme for scheme in schemes), role
    for color, role in ROLES.items():
        assert f"--{role}: {color}" in schemes[0]
    drawn = re.findall(r'(?:fill|stroke)[:=]"?(#[0-9a-f]{6})', page)
    assert not set(drawn) & set(SERIES)


def find_pruned_run(records: Path) -> Path:
    """Return a run whose loss leaves the winner and its seeds as they are."""
    ends = sorted((records / "runs").glob("*/end.json"))
    return next(end.parent for end in ends if '"pruned"' in end.read_text())


def test_damaged_and_foreign_records_are_named_and_left_out(tmp_path: Path) -> None:
    root = tmp_path / "records"
    write_studies(root, StudyNames(methods=("a", "b", "c")))
    a, b, c = sorted((root / "data-True").iterdir())
    run = find_pruned_run(a)
    (run / "run.json").write_text("{half")
    (b / "export.json").write_text("[]")
    other = find_pruned_run(c) / "run.json"
    other.write_text(other.read_text().replace('"record_version": ', '"record_version": 9'))
    data = read_studies([RecordSource("r", open_storage(root))])
    # A damaged run is left out of its study; without export.json there is no study.
    assert [one.label for one in data.studies["digits"]] == ["a", "c"]
    trials = [len(one.study.trials) + len(one.study.seeds) for one in data.studies["digits"]]
    assert trials == [8, 8]
    found = sorted((one.where.removeprefix("r: "), one.reason) for one in data.left_out)
    assert [where for where, _ in found] == sorted(
        [str(run / "run.json"), str(b / "export.json"), str(other)]
    )
    assert "version" in dict(found)[str(other)]
    text = make_report([RecordSource("r", open_storage(root))])
    assert "Left out" in text


def test_a_study_that_cannot_be_shown_is_named_and_left_out(tmp_path: Path) -> None:
    root = tmp_path / "records"
    write_studies(root, StudyNames(methods=("a", "b")), trials=3, seeds=1)
    path = sorted(root.glob("*/*/export.json"))[0]
    content = json.loads(path.read_text())
    content["higher_is_better"].pop("average_accuracy")  # a metric without a direction
    path.write_text(json.dumps(content))
    text = make_report([RecordSource("r", open_storage(root))])
    assert "Left out" in text
    assert "r: digits/a" in text
    assert "cannot be shown: KeyError" in text


def test_a_study_file_that_is_no_text_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "study.yaml").write_bytes(b"seeds: 3\n\xff")
    for command in ("report", "resume"):
        assert main([command, str(tmp_path)]) == 2
        assert f"{tmp_path / 'study.yaml'}: line 2: not UTF-8" in capsys.readouterr().err


def test_a_method_of_several_folders_is_told_apart(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_studies(tmp_path / name, StudyNames(methods=("erm",)))
    sources = [RecordSource(n, open_storage(tmp_path / n)) for n in ("one", "two")]
    (studies,) = read_studies(sources).studies.values()
    assert [one.label for one in studies] == ["erm (one)", "erm (two)"]


def test_without_studies_the_command_says_where_it_looked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path / "none")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "none" in line
    assert "--storage" in line
    with pytest.raises(UserError, match="no study found"):
        make_report([RecordSource("r", open_storage(tmp_path))])


def test_the_command_writes_page_and_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results").mkdir()
    write_studies(tmp_path / "results.records", StudyNames(methods=("erm",)), trials=3)
    figures = tmp_path / "figures"
    assert main(["report", str(tmp_path / "results"), "--figures", str(figures)]) == 0
    assert "report.html" in capsys.readouterr().out
    assert (tmp_path / "results" / "report.html").stat().st_size < 1e6
    names = {path.relative_to(figures).as_posix() for path in figures.rglob("*.*")}
    assert {"digits/pareto_front.pdf", "digits/pareto_front.png"} <= names
    assert {"digits/erm/learning_curves.pdf", "digits/erm/group_epochs.png"} <= names


def read_url(url: str, host: str = "") -> tuple[int, str]:
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_served_page_follows_the_records(tmp_path: Path) -> None:
    names = StudyNames(methods=("erm",))
    write_studies(tmp_path, names, trials=3)
    sources = [RecordSource("r", open_storage(tmp_path))]
    with ReportServer(sources, min_seconds=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server_address = server.server_address[0]
        assert server_address == "127.0.0.1"
        status, page = read_url(server.url)
        version = compute_version(sources)
        assert status == 200
        assert f'data-version="{version}"' in page
        assert "connect-src" in page
        assert read_url(f"{server.url}version") == (200, version)
        write_studies(tmp_path, names, trials=4)
        server._next = 0.0
        assert read_url(f"{server.url}version") == (200, compute_version(sources))
        assert compute_version(sources) != version
        assert read_url(f"{server.url}../tune.py")[0] == 404
        assert read_url(server.url, "evil.example")[0] == 403
        with urllib.request.urlopen(
            urllib.request.Request(server.url, method="HEAD"), timeout=60
        ) as answer:
            assert (answer.status, answer.read()) == (200, b"")
            assert int(answer.headers["Content-Length"]) > 1000
        (context,) = tmp_path.glob("*/*/export.json")
        context.write_text("[]")
        server._next = 0.0
        status, page = read_url(server.url)
        assert status == 200
        assert f'data-version="{server.version}"' in page
        assert "an older one: no study found" in page
        assert "missing or damaged" in page
        server.shutdown()


def test_series_differ_without_color() -> None:
    styles = choose_styles(40)
    assert len({(line, marker) for _, line, marker in styles}) == 40
    assert len({(color, marker) for color, _, marker in styles}) == 40


def test_a_sixteenth_of_2000_trials_takes_a_sixteenth_of_10_megabytes(tmp_path: Path) -> None:
    write_studies(tmp_path, StudyNames(methods=("erm",)), trials=125, epochs=10, seeds=1)
    text = make_report([RecordSource("r", open_storage(tmp_path))])
    assert "125 trials" in text
    assert len(text.encode()) < 10e6 / 16
