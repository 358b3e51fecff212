"""Search spaces that a command gives: ``--set NAME=DOMAIN`` and ``--space FILE``."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import datasets
from common.errors import UserError
from common.hyperparameters import KINDS, Hyperparameter, format_scalar, parse_hyperparameter
from core.recipe.method_files import list_methods, load_method
from tests.conftest import EMBEDDED, fitting
from tuning.cli.main import main
from tuning.cli.make_options import make_options
from tuning.cli.parser import make_parser
from tuning.option_values import parse_domains, read_space
from tuning.options import Options
from tuning.search.searchers.random import RandomSearcher
from tuning.search.searchers.tpe import TPESearcher
from tuning.search.space import Space, make_space
from tuning.study.space_table import format_spaces

NUMBERS = st.floats(1e-6, 1e6, allow_nan=False) | st.integers(1, 10**6)


def make_spaces(
    arguments: list[str], *methods: str, dataset: str = "colored_digits"
) -> list[Space]:
    command = ["--method", *methods, "--dataset", dataset, *arguments]
    options = make_options(make_parser().parse_args(command))
    benchmark = datasets.load_benchmark(dataset)
    return [make_space(load_method(name), benchmark, options) for name in methods]


@given(kind=st.sampled_from([kind for kind in KINDS if "integer" not in kind]), values=st.data())
def test_a_domain_is_read_as_it_is_written(kind: str, values: st.DataObject) -> None:
    drawn = values.draw(st.lists(NUMBERS, min_size=2, max_size=2, unique=True))
    low, high = sorted(drawn)
    separator = "," if kind == "choice" else ":"
    rest, domains = parse_domains([f"lr={kind}:{low}{separator}{high}", "batch_size=8"])
    assert rest == ["batch_size=8"]
    assert (domains["lr"].kind, domains["lr"].values) == (kind, (low, high))
    assert domains["lr"].find_broken_rule(domains["lr"].default) is None
    assert parse_domains([f"lr={domains['lr'].describe_domain()}"])[1] == domains
    assert read_space({"lr": domains["lr"].describe_domain(), "batch_size": 8}) == (
        {"batch_size": 8},
        domains,
    )


@pytest.mark.parametrize(("method", "name"), fitting(list_methods(), EMBEDDED))
def test_every_method_searches_the_domains_of_the_command(method: str, name: str) -> None:
    arguments = ["--set", "lr=log_uniform:1e-4:1", "--set", "optimizer=choice:sgd,adam"]
    (space,) = make_spaces(arguments, method, dataset=name)
    (own,) = make_spaces([], method, dataset=name)
    assert space.free["lr"].values == (1e-4, 1)
    assert space.free["optimizer"].values == ("sgd", "adam")
    others = space.free.keys() - {"lr", "optimizer"}
    assert {n: space.free[n] for n in others} == {
        n: domain for n, domain in own.free.items() if n in others
    }
    table = "\n".join(format_spaces([space]))
    assert "log_uniform:0.0001:1" in table
    assert "command line" in table


@pytest.mark.parametrize(
    ("domain", "default"),
    [
        ("lr=log_uniform:0.0001:1", 0.05), ("lr=log_uniform:0.1:1", 0.316228),
        ("batch_size=choice:16,32.0,64", 32.0), ("batch_size=choice:64,128", 64),
        ("momentum=uniform:0.5:0.95", 0.9), ("clip_norm=choice:1,2", 1),
    ],
)  # fmt: skip
def test_a_domain_keeps_the_default_that_it_holds(domain: str, default: float) -> None:
    (space,) = make_spaces(["--set", domain], "erm")
    name = domain.partition("=")[0]
    found = space.free[name]
    assert (found.default, type(found.default)) == (default, type(default))
    assert found.as_mapping()["default"] == default


@pytest.mark.parametrize("searcher", [RandomSearcher, TPESearcher])
def test_a_default_of_another_type_is_proposed_once(
    searcher: type[RandomSearcher | TPESearcher],
) -> None:
    problems: list[str] = []
    domain = parse_hyperparameter("f", {"choice": [0.1, 1.0], "default": 1}, problems)
    assert domain is not None
    assert not problems
    space = {"alpha": domain}
    found = RandomSearcher(space, 0, "m") if searcher is RandomSearcher else TPESearcher(space, 0)
    proposed = [found.propose_hyperparameters(number) for number in range(3)]
    assert proposed == [{"alpha": 1.0}, {"alpha": 0.1}, None]


def test_origins_are_named() -> None:
    text = "\n".join(format_spaces(make_spaces(["--set", "batch_size=16"], "jtt", "dro")))
    rows = {row.split(" | ")[0].strip("| "): row for row in text.splitlines()}
    assert "| log_uniform:1e-06:0.1 " in rows["weight_decay"]
    assert "| data set colored_digits | all" in rows["weight_decay"]
    assert "| method jtt" in rows["up"]
    assert "| method dro" in rows["eta"]
    assert "| fixed: 16" in rows["batch_size"]


def test_a_condition_that_cannot_hold_here_is_shown() -> None:
    method = load_method("erm")
    domain = Hyperparameter("uniform", (0.0, 0.9), 0.5, {"optimizer": ("adam",)})
    (space,) = [
        make_space(
            method,
            datasets.load_benchmark("colored_digits"),
            Options(("erm",), "colored_digits", domains={"momentum": domain}),
        )
    ]
    assert "momentum" not in space.free
    (row,) = (row for row in format_spaces([space]) if "momentum" in row)
    assert "not searched" in row
    assert "optimizer=adam" in row


def test_grids_and_published_values_are_shown_as_they_are_trained() -> None:
    method, benchmark = load_method("dfr"), datasets.load_benchmark("waterbirds")
    space = make_space(method, benchmark, Options(("dfr",), "waterbirds", search="grid"))
    text = "\n".join(format_spaces([space], "grid"))
    assert "log_uniform" not in text
    for name, values in space.resolved.grid.items():
        row = next(row for row in text.splitlines() if row.startswith(f"| {name} "))
        assert all(format_scalar(value) in row for value in values)
        assert "published grid of dfr" in row
    jtt = make_space(load_method("jtt"), benchmark, Options(("jtt",), "waterbirds"))
    text = "\n".join(format_spaces([jtt], "published"))
    for name, value in (jtt.published() or {}).items():
        assert f"| {name} " in text
        assert f"fixed: {format_scalar(value)}" in text


def test_a_file_gives_values_and_domains(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(
        "lr: {log_uniform: [1e-4, 1e-1], default: 0.02}\n"
        "momentum: {uniform: [0, 0.9], when: {optimizer: sgd}}\n"
        "optimizer: {choice: [sgd, adamw]}\nbatch_size: 16\nweight_decay: 0.1\n"
    )
    arguments = ["--space", str(file), "--set", "weight_decay=choice:0.1,0.2", "--set", "lr=0.5"]
    (space,) = make_spaces(arguments, "erm")
    assert space.fixed == {"lr": 0.5, "batch_size": 16}  # --set takes precedence
    assert space.free["weight_decay"].values == (0.1, 0.2)
    assert space.free["momentum"].when == {"optimizer": ("sgd",)}
    assert space.free["optimizer"].default == "sgd"


def test_an_unknown_name_is_the_files_that_gives_it_and_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "space.yaml"
    for content in ("lrr: 0.1", "lrr: {uniform: [0, 1]}", "lr: abc"):
        file.write_text(content)
        command = ["--method", "erm", "rwg", "--dataset", "colored_digits", "--plan"]
        assert main([*command, "--space", str(file)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: --space '{file}': ")


def test_a_condition_that_always_holds_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text("momentum: {uniform: [0, 0.9], when: {optimizer: sgd}}\n")
    (space,) = make_spaces(["--space", str(file), "--set", "optimizer=sgd"], "erm")
    assert space.free["momentum"].when == {}
    (row,) = (row for row in format_spaces([space]) if "momentum" in row)
    assert "optimizer=sgd" in row


def test_a_domain_keeps_the_condition_of_the_method() -> None:
    for name, method in ((n, load_method(n)) for n in list_methods()):
        for hyperparameter, own in method.search.items():
            benchmark = next(b for b in EMBEDDED if (name, b) in fitting([name], EMBEDDED))
            domain = Hyperparameter("choice", (own.default,), own.default)
            options = Options((name,), benchmark, domains={hyperparameter: domain})
            space = make_space(method, datasets.load_benchmark(benchmark), options)
            assert space.resolved.hyperparameters[hyperparameter].when == own.when


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("lr=log_uniform:1:0.1", ["--set lr", "a reversed range"]),
        ("lr=log_uniform:-1:1", ["--set lr", "above 0"]),
        ("lr=uniform:low:high", ["--set lr", "two numbers"]),
        ("lr=uniform:0.1", ["--set lr", "two numbers"]),
        ("batch_size=integer:1.5:4", ["--set batch_size", "integers"]),
        ("batch_size=integer:0:4", ["batch_size: received 0", "from 1"]),
        ("batch_size=choice:8,many", ["batch_size: received 'many'"]),
        ("batch_size=choice:8,8", ["each value once"]),
        ("optimizer=choice:sgd,sdg", ["optimizer: received 'sdg'", "adamw"]),
        ("lr=loguniform:1e-4:1e-1", ["--set: received", "did you mean 'log_uniform'"]),
        ("batch_size=int:1:5", ["did you mean 'integer'"]),
        ("lr=beta:1:5", ["unknown domain 'beta'", "known: choice, integer"]),
        ("lr=choice:", ["a value is empty", "choice:8,16,32"]),
        ("lr=uniform::1", ["a value is empty", "uniform:LOW:HIGH"]),
        ("lr=choice:0.1:0.2", ["separated by commas: choice:0.1,0.2"]),
        ("lr=abc", ["--set: lr: received 'abc'"]),
        ("lr=log_uniform(1e-4, 1e-1)", ["expected lr=log_uniform:1e-4:1e-1"]),
        ("lr=choice([1, 2])", ["expected lr=choice:1,2"]),
        ("batch_size=uniform:8:16", ["holds decimals; expected integers: integer:8:16"]),
        ("patience=log_uniform:2:4", ["expected integers: log_integer:2:4"]),
        ("learning_rate=uniform:0.1:1", ["unknown hyperparameter", "did you mean 'lr'"]),
    ],
)
def test_domains_that_cannot_be_searched_are_refused(
    argument: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--method", "erm", "--dataset", "colored_digits", "--plan", "--set", argument]
    assert main(command) == 2
    message = capsys.readouterr().err
    for word in words:
        assert word in message


def test_values_with_a_colon_are_no_domains() -> None:
    texts = ["task_weights=depth:2", "task_weights=depth:2,normals:3"]
    assert parse_domains(texts) == (texts, {})


def test_a_wrong_domain_as_a_text_of_a_space_is_one_message() -> None:
    with pytest.raises(UserError, match=r"space: lr: received 'log_unifrm:.*mean 'log_uniform'"):
        read_space({"lr": "log_unifrm:1e-3:1e-1"})


def test_a_space_may_be_headed_as_in_the_files_of_methods() -> None:
    content = {"lr": "uniform:0:1", "batch_size": 8}
    assert read_space({"search": content}) == read_space(content)


def test_a_value_and_a_domain_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match="lr is given a value and a domain"):
        parse_domains(["lr=0.1", "lr=uniform:0.1:1"])
    with pytest.raises(UserError, match="lr is given two domains"):
        parse_domains(["lr=choice:1,2", "lr=uniform:0.1:1"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "expected a mapping"),
        ("- lr", "expected a mapping"),
        ("lr: {unifrom: [0, 1]}", "did you mean 'uniform'"),
        ("lr: [0, 1]", r"expected a mapping such as \{choice: \[0, 1\]\}"),
        ("lr: {uniform: 1}", r"uniform: received 1, expected two numbers \[low, high\]"),
        ("momentum: {uniform: [0, 1], when: {optimiser: sgd}}", "did you mean 'optimizer'"),
        ("momentum: {uniform: [0, 1], when: {optimizer: sdg}}", "when.optimizer: received 'sdg'"),
        ("lr: abc", "lr: received 'abc'"),
        ("batch_size: {choice: [8, many]}", "batch_size: received 'many'"),
    ],
)
def test_files_that_are_no_space_are_refused(content: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(content)
    with pytest.raises(UserError, match=words) as refused:
        make_spaces(["--space", str(file)], "erm")
    assert f"--space '{file}'" in str(refused.value)
    with pytest.raises(UserError, match=r"--space: .*none\.yaml: missing"):
        make_spaces(["--space", str(tmp_path / "none.yaml")], "erm")
