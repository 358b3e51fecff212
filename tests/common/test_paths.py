"""Paths as users write them."""

import argparse
from pathlib import Path

import pytest

from common.errors import UserError
from common.paths import parse_location, parse_path, read_path_variable
from core.__main__ import make_parser as make_core_parser
from datasets.prepare import make_parser as make_prepare_parser
from datasets.storage.array_cache import cache_folder
from tuning.cli import doctor, export, parser
from tuning.records.open_storage import open_storage
from tuning.records.storage import make_absolute


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder and a variable."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.delenv("NOT_SET", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_homes_and_variables_are_expanded(home: Path) -> None:
    for text, path in (
        ("~", home), ("~/out", home / "out"), ("$SCRATCH/out", home / "scratch" / "out"),
        ("${SCRATCH}/out", home / "scratch" / "out"), ("$HOME", home), ("~root/x", "/root/x"),
        ("out", "out"), ("./~/out", "./~/out"), ("a~b", "a~b"), ("run:1/a", "run:1/a"),
        ("/data/a:/b", "/data/a:/b"), ("./s3:/bucket", "./s3:/bucket"),
    ):  # fmt: skip
        assert parse_path(text) == Path(path)
        assert parse_location(text) == str(path)
    assert parse_location("s3://$NAME/~/x".replace("NAME", "HOME")) == f"s3://{home}/~/x"


def test_what_cannot_be_meant_is_refused(home: Path) -> None:
    for text, reason in (
        ("", "empty path"), (" ", "empty path"), ("$NOT_SET/out", "variable NOT_SET is not set"),
        ("${NOT_SET}", "variable NOT_SET is not set"), ("~nobody-here/out", "no such user"),
    ):  # fmt: skip
        for convert in (parse_path, parse_location):
            with pytest.raises(argparse.ArgumentTypeError, match=reason):
                convert(text)
    for text in ("s3://bucket/out", "s3:/bucket", "host:/folder", "C:\\data", "c:/data"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected a path on this machine"):
            parse_path(text)
    (home / "$NOT_SET").mkdir()
    assert parse_path("$NOT_SET") == Path("$NOT_SET")  # a folder of that name


def test_variables_of_the_environment_are_paths_too(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_path_variable("NOT_SET") is None
    monkeypatch.setenv("EVENHAND_CACHE", "~/cache")
    assert cache_folder("x", home / "data") == home / "cache" / "x"
    monkeypatch.setenv("EVENHAND_CACHE", "$NOT_SET/cache")
    with pytest.raises(UserError, match=r"EVENHAND_CACHE: .*NOT_SET is not set"):
        cache_folder("x", home / "data")


def test_every_option_that_takes_a_path_expands_it(home: Path) -> None:
    parsers = {
        "tune": (parser.make_parser(), []),
        "doctor": (doctor.make_parser(), []),
        "export": (export.make_parser(), []),
        "core": (make_core_parser(), ["--method", "erm", "--dataset", "colored_digits"]),
        "prepare": (make_prepare_parser(), ["waterbirds"]),
    }
    seen = set()
    for command, (made, required) in parsers.items():
        for action in made._actions:
            metavar = str(action.metavar or "")
            if not {"DIR", "FILE"} & set(metavar.split("|")) or not action.option_strings:
                continue
            flag = action.option_strings[-1]
            args = made.parse_args([*required, f"{flag}=~/out"])
            assert str(getattr(args, action.dest)) == str(home / "out"), (command, flag)
            seen.add(flag)
    assert seen >= {"--results", "--data-root", "--storage", "--baseline", "--simulate"}


@pytest.mark.parametrize("name", ["s3:b", "gs:b", "s3://b/x", "S3:b"])
def test_a_folder_may_be_named_like_a_url(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(argparse.ArgumentTypeError, match=r"write \./"):
        parse_path(name)
    folder = parse_path(f"./{name}")
    assert make_absolute(folder) == str(tmp_path / name).replace("//", "/")
    assert str(open_storage(folder)) == make_absolute(folder)


def test_names_that_are_not_utf_8_are_refused() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"received 'caf\\udce9'"):
        parse_path("caf\udce9")
