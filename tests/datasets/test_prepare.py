"""``python -m datasets.prepare`` and ``describe``, with a server on loopback."""

import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import datasets
from common.files import lock_file
from datasets import describe, prepare
from datasets.fetch.sources import SOURCES, mirror_sources, read_sources
from datasets.on_disk import OnDisk
from tests.support import real_data
from tests.support.loopback import Server

ROOT = Path(__file__).resolve().parents[2]


def pack(folder: Path, archive: Path) -> None:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as opened:
            for path in sorted(folder.rglob("*")):
                opened.write(path, str(path.relative_to(folder.parent)))
        return
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    try:
        code = prepare.main([str(argument) for argument in arguments])
    except SystemExit as error:
        code = int(str(error.code))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


NAME = "waterbird_complete95_forest2water2.tar.gz"


@pytest.mark.real_data
def test_waterbirds_from_a_server(
    tmp_path: Path, www: tuple[Path, Server], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, server = www
    real_data.waterbirds(tmp_path / "made")
    pack(tmp_path / "made" / "waterbirds" / NAME.removesuffix(".tar.gz"), folder / NAME)
    root = tmp_path / "data"
    server.break_after = 100_000
    arguments = ("waterbirds", "--data-root", root, "--download", "--source", server.address)
    code, out, err = run(capsys, *arguments)
    assert (code, err) == (0, "")
    assert f"waterbirds: complete ({root / 'waterbirds'})" in out
    assert [asked[1] for asked in server.asked] == ["", "bytes=100000-"]
    assert (root / "waterbirds" / "metadata_waterbirds.csv").is_file()
    assert not (root / ".downloads" / "waterbirds").exists()
    state = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.suffix != ".lock"}
    assert run(capsys, *arguments)[0] == 0  # nothing is left to do
    assert run(capsys, "waterbirds", "--data-root", root, "--check")[0] == 0
    assert state == {
        path: path.stat().st_mtime_ns for path in root.rglob("*") if path.suffix != ".lock"
    }
    assert len(server.asked) == 2

    (original,) = (root / "waterbirds").rglob("metadata.csv")
    text = original.read_text()
    table = pd.read_csv(original)
    table["y"] = table["y"].where(table.index != 3, 1 - table["y"])
    table.to_csv(original, index=False)
    _, _, err = run(capsys, "waterbirds", "--data-root", root, "--check")
    made = root / "waterbirds" / "metadata_waterbirds.csv"
    assert f"{made}: not the 59 rows that the original files give (1 changed)" in err
    made.write_text("".join(made.read_text().splitlines(keepends=True)[:-3]))
    _, _, err = run(capsys, "waterbirds", "--data-root", root, "--check")
    assert "(3 missing, 1 changed)" in err
    table["y"] = 2
    table.to_csv(original, index=False)
    made.unlink()
    code, _, err = run(capsys, "waterbirds", "--data-root", root)
    assert code == 1
    assert f"{original}: row 1 (id 1) and 39 more: y: received '2', expected 0 to 1" in err
    assert "row 5 (id 5) and 18 more: y: received '2'" in err
    assert "not complete: 2 problems" in err
    original.write_text(text)
    assert run(capsys, *arguments)[0] == 0  # no table was written of the wrong labels

    images = sorted((root / "waterbirds").rglob("*.jpg"))
    images[0].unlink()
    images[1].write_bytes(images[1].read_bytes()[:2000])
    code, _, err = run(capsys, "waterbirds", "--data-root", root, "--check")
    assert code == 1
    assert f"{images[0]}: missing" in err
    code, _, err = run(capsys, *arguments)
    assert code == 0, err
    images[1].write_bytes(images[1].read_bytes()[:2000])
    code, _, err = run(capsys, "waterbirds", "--data-root", root, "--check")
    assert code == 1
    assert f"{images[1]}: damaged image" in err
    assert "1 problem\n" in err


@pytest.mark.real_data
def test_several_at_once_of_a_file_of_sources(
    tmp_path: Path, www: tuple[Path, Server], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, server = www
    made = tmp_path / "made" / "celeba"
    real_data.celeba(made)
    pack(made / "img_align_celeba", folder / "img_align_celeba.zip")
    for name in ("list_eval_partition.txt", "list_attr_celeba.txt"):
        (made / name).rename(folder / name)
    real_data.comments().iloc[2::3].reset_index(drop=True).to_csv(  # each group is in validation
        folder / "all_data_with_identities.csv"
    )
    digest = hashlib.sha256((folder / "img_align_celeba.zip").read_bytes()).hexdigest()
    entries: dict[str, list[dict[str, Any]]] = {
        "celeba": [
            {"url": f"{server.address}/{path.name}", "file": path.name, "sha256": digest}
            if path.suffix == ".zip"
            else {"url": f"{server.address}/{path.name}", "file": path.name, "sha256": None}
            for path in sorted(folder.glob("*"))
            if "celeba" in path.name or "partition" in path.name
        ],
        "civilcomments": [
            {
                "url": f"{server.address}/all_data_with_identities.csv",
                "file": "all_data_with_identities.csv",
            }
        ],
    }
    sources = tmp_path / "sources.yaml"
    sources.write_text(yaml.safe_dump(entries))
    root = tmp_path / "data"
    real_data.vocabulary(root)
    names = ("celeba", "civilcomments", "civilcomments_fine")
    code, out, err = run(capsys, *names, "--data-root", root, "--download", "--sources", sources)
    assert code == 0, err
    for name in names:
        assert f"{name}: complete" in out
        assert (root / ".cache" / name).is_dir()
    assert len(server.asked) == 4
    caches = [path.parent for path in (root / ".cache").rglob("manifest.json")]
    assert len(caches) == 3
    assert run(capsys, *names, "--data-root", root, "--check")[0] == 0
    assert describe.main([*names, "--data-root", str(root)]) == 0
    printed = capsys.readouterr().out
    assert "Warning: train differs from the published groups" in printed  # it is a small piece
    assert "the smallest validation group is" in printed

    for entry in entries["celeba"]:
        entry["sha256"] = "0" * 64
    sources.write_text(yaml.safe_dump(entries))
    code, _, err = run(
        capsys, "celeba", "--data-root", tmp_path / "two", "--download", "--sources", sources
    )
    assert code == 2
    assert "wrong checksum" in err
    assert not list((tmp_path / "two").rglob("*.part"))


@pytest.mark.parametrize("outer", ["", "folder/"])
def test_one_archive_of_the_whole_folder(
    tmp_path: Path,
    www: tuple[Path, Server],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    outer: str,
) -> None:
    monkeypatch.setattr("datasets.storage.texts.try_to_load_from_cache", lambda *_: None)
    folder, server = www
    table = "id,filename,split,y,a\n" + "".join(
        f"{i},{i}.txt,{i // 4},{i % 2},{i // 2 % 2}\n" for i in range(12)
    )
    with zipfile.ZipFile(folder / "own.zip", "w") as archive:
        archive.writestr(f"{outer}metadata.csv", table)
        for i in range(12):
            archive.writestr(f"{outer}{i}.txt", f"text {i}")
    root = tmp_path / "data"
    address = f"{server.address}/own.zip"
    arguments = ("folder", "--data-root", root, "--download", "--source", address)
    code, _, err = run(capsys, *arguments)
    assert code == 0, err
    assert "not tokenized yet" in err  # no vocabulary there, which the message names
    made = datasets.load_benchmark.__wrapped__("folder", root)
    assert isinstance(made, OnDisk)
    assert made.find_problems() == []


def test_an_archive_that_escapes_is_refused_and_leaves_nothing(
    tmp_path: Path, www: tuple[Path, Server], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, server = www
    with zipfile.ZipFile(folder / "own.zip", "w") as archive:
        archive.writestr("../../evil.txt", "evil")
    root = tmp_path / "deep" / "data"
    address = f"{server.address}/own.zip"
    code, _, err = run(capsys, "folder", "--data-root", root, "--download", "--source", address)
    assert code == 2
    assert err.startswith("error: folder: ")
    assert "member '../../evil.txt' would lie outside" in err
    assert not list(tmp_path.rglob("evil.txt"))
    assert not (root / "folder").exists()


def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, www: tuple[Path, Server], capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit on the size of files simulates a full disk: the system call fails in the same way."""
    folder, server = www
    with zipfile.ZipFile(folder / "own.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.bin", bytes(3_000_000))
    (folder / "own.tar").write_bytes(bytes(3_000_000))
    root = tmp_path / "data"
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for name in ("own.zip", "own.tar"):  # full when extracting, full when downloading
        arguments = ("folder", "--data-root", root, "--download")
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
        try:
            code, _, err = run(capsys, *arguments, "--source", f"{server.address}/{name}")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert code == 2
        assert err.startswith("error: folder: ")
        assert "the disk is full" in err
        assert err.count("\n") == 1
    signal.signal(signal.SIGXFSZ, handler)
    left = {path.name for path in root.rglob("*") if path.is_file()}
    assert left == {"own.zip", ".folder.prepare.lock"}  # the archive is whole


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: NAME"),
        (["waterbrids"], "unknown data set 'waterbrids' (did you mean 'waterbirds'?)"),
        (["waterbirds", "--chek"], "unknown option '--chek' (did you mean '--check'?)"),
        (["waterbirds", "--check", "--download"], "exclude each other"),
        (["waterbirds", "--source", "http://x"], "no effect without --download"),
        (
            ["waterbirds", "celeba", "--download", "--source", "http://x"],
            "--source: received 2 data sets, expected one",
        ),
        (["folder", "--download"], "no address to download from; put the files into"),
        (["waterbirds", "--download", "--sources", "nowhere.yaml"], "nowhere.yaml: missing"),
        (["waterbirds", "--data-root", __file__], "a file; expected a folder"),
    ],
)
def test_mistakes_get_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert out == ""


def test_check_of_nothing_says_what_is_missing_and_makes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "waterbirds", "colored_digits", "--data-root", tmp_path, "--check")
    assert code == 1
    assert f"{tmp_path / 'waterbirds'}: missing" in err
    assert list(tmp_path.iterdir()) == []


def test_a_second_process_says_that_it_waits_and_can_be_stopped(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "datasets.prepare", "waterbirds", "--data-root", str(tmp_path)]
    with (
        lock_file(tmp_path / ".waterbirds.prepare.lock", "this test"),
        subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            # What a shell starts in its background ignores the signal, and so would this.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        ) as process,
    ):
        assert process.stderr is not None
        said = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=60)[1]
    assert "another process prepares it; waiting for it" in said
    assert rest == "waterbirds: interrupted; the same command resumes from here\n"
    assert process.returncode == 130


def test_the_sources_in_use_are_well_formed() -> None:
    for name, sources in read_sources(SOURCES).items():
        for source in sources:
            assert source.url.startswith("https://"), name
            assert mirror_sources("http://h/x", [source])[0].url == f"http://h/x/{source.file}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "malformed YAML"),
        ("a: 3", "expected a list"),
        ("a: [{url: u}]", "a, entry 1: file: received None"),
        ("a: [{url: u, file: ../x}]", "file: received '../x'"),
        ("a: [{url: u, file: x, to: /etc}]", "to: received '/etc'"),
        ("a: [{url: u, file: x, sha256: abc}]", "sha256: received 'abc'"),
        ("a: [{url: u, file: x, git_blob: abc}]", "git_blob: received 'abc', expected 7 to 40"),
        ("a: [{url: u, file: x, shasum: abc}]", "unknown key 'shasum' (did you mean 'sha256'?)"),
    ],
)
def test_malformed_sources_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    (tmp_path / "s.yaml").write_text(text)
    code, _, err = run(
        capsys,
        *("waterbirds", "--data-root", tmp_path, "--download", "--sources", tmp_path / "s.yaml"),
    )
    assert code == 2
    assert message in err


def test_cards(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in datasets.list_benchmarks():
        card = datasets.load_benchmark.__wrapped__(name, tmp_path).card
        assert all((card.title, card.source, card.license, card.paper)), name
    assert describe.main(["colored_digits", "two_digits", "waterbirds"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 digit < 5 channel 1 27 (2.5%) 90 (25.1%) 90 (25.1%)" in printed
    # sqrt(0.8 x 0.2 / 89) = 4.24%
    assert "with 89 examples: there, an accuracy of 80% has a standard error of 4.2" in printed
    assert "left_accuracy" in printed
    assert "not complete" in printed
    real_data.waterbirds(tmp_path)
    shutil.rmtree(next((tmp_path / "waterbirds").rglob("001*")))
    assert describe.main(["waterbirds", "--data-root", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "not complete" in printed
    assert "waterbird" in printed.split("not complete")[1]  # the table is there: its groups
    assert describe.main(["waterbrids"]) == 2
    assert "did you mean 'waterbirds'" in capsys.readouterr().err
