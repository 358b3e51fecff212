"""Archives: what is in them comes out, and nothing else happens."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import UserError
from datasets.fetch.archives import ArchiveLimits, extract_archive


def tar_of(path: Path, members: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_all_comes_out_beside_what_is_there(tmp_path: Path, make: object) -> None:
    members = {"a/b/1.txt": b"one", "a/2.txt": b"two", "3.txt": b""}
    suffix = "tar.gz" if make is tar_of else "zip"
    archive = (tar_of if make is tar_of else zip_of)(tmp_path / f"x.{suffix}", members)
    target = tmp_path / "out"
    (target / "a").mkdir(parents=True)
    (target / "a" / "own.txt").write_bytes(b"own")
    (target / "a" / "2.txt").write_bytes(b"old")
    extract_archive(archive, target)
    extract_archive(archive, target)
    assert tree(target) == {**members, "a/own.txt": b"own"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", archive.name]


PARTS = st.lists(
    st.sampled_from(["..", ".", "a", "b", "", "c.txt", "..a", "x:", "\\..", "~"]),
    min_size=1,
    max_size=5,
)
NAMES = st.tuples(st.sampled_from(["", "/", "//", "\\", "C:\\", "c:/"]), PARTS).map(
    lambda parts: parts[0] + "/".join(parts[1]) or "."
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(NAMES, min_size=1, max_size=3, unique=True), zipped=st.booleans())
def test_no_path_escapes(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], zipped: bool
) -> None:
    outer = tmp_path_factory.mktemp("outer")
    target = outer / "deep" / "er" / "target"
    target.mkdir(parents=True)
    make = zip_of if zipped else tar_of
    archive = make(outer / "x.bin", dict.fromkeys(names, b"evil"))
    try:
        extract_archive(archive, target)
    except UserError:
        assert tree(target) == {}
    outside = {name for name in tree(outer) if not name.startswith("deep/er/target/")}
    assert outside == {"x.bin"}
    assert list((outer / "deep" / "er").iterdir()) == [target]


def special(path: Path, kind: bytes, link: str = "") -> Path:
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo("first.txt")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"1"))
        info = tarfile.TarInfo("second")
        info.type, info.linkname = kind, link
        tar.addfile(info)
    return path


@pytest.mark.parametrize(
    ("kind", "link"),
    [
        (tarfile.SYMTYPE, "/etc"),
        (tarfile.SYMTYPE, "first.txt"),
        (tarfile.LNKTYPE, "first.txt"),
        (tarfile.LNKTYPE, "/etc/passwd"),
        (tarfile.CHRTYPE, ""),
        (tarfile.BLKTYPE, ""),
        (tarfile.FIFOTYPE, ""),
    ],
)
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes, link: str) -> None:
    archive = special(tmp_path / "x.tar.gz", kind, link)
    with pytest.raises(UserError, match=r"x.tar.gz: member 'second' is a (link|device)"):
        extract_archive(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar.gz"]


def test_links_in_zip_archives_are_refused(tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        opened.writestr(info, "/etc/passwd")
    with pytest.raises(UserError, match="member 'link' is a link"):
        extract_archive(archive, tmp_path / "out")


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_bombs_are_refused(tmp_path: Path, make: object) -> None:
    members = {f"{i}.bin": bytes(1_000_000) for i in range(4)}
    archive = (tar_of if make is tar_of else zip_of)(tmp_path / "x.bin", members)
    extract_archive(archive, tmp_path / "fine")
    for limits, reason in (
        (ArchiveLimits(size=3_999_999), "archive bomb"),
        (ArchiveLimits(free=100_000, ratio=10), "archive bomb"),
        (ArchiveLimits(members=3), "more than 3 members"),
    ):
        with pytest.raises(UserError, match=reason):
            extract_archive(archive, tmp_path / "out", limits)
        assert not (tmp_path / "out").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fine", "x.bin"]


def test_a_zip_archive_that_lies_about_its_sizes_is_refused(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "x.zip", {"0.bin": bytes(1_000_000)})
    data = archive.read_bytes()
    archive.write_bytes(data.replace((1_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(UserError, match="damaged archive"):
        extract_archive(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("mode", ["w:gz", "w", "zip"])
def test_damaged_archives_are_refused_by_name(tmp_path: Path, mode: str) -> None:
    members = {f"{i}.bin": bytes(range(256)) * 40 for i in range(9)}
    if mode == "zip":
        archive = zip_of(tmp_path / "x", members)
    else:
        archive = tar_of(tmp_path / "x", members, mode)
    data = archive.read_bytes()
    for spoilt in (data[: len(data) // 2], b"", b"no archive at all"):
        archive.write_bytes(spoilt)
        with pytest.raises(UserError, match=r"x: (damaged|neither)"):
            extract_archive(archive, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "x.tar", {"a": b"1", "a/b": b"2"}, "w")
    with pytest.raises(UserError, match="damaged archive"):
        extract_archive(archive, tmp_path / "out")


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_files_that_macos_adds_are_left_out(tmp_path: Path, make: object) -> None:
    members = {
        "./._own": b"0",
        ".DS_Store": b"1",
        "__MACOSX/own/._0.npy": b"2",
        "own/0.npy": b"3",
        "own/._0.npy": b"4",
        "own/.git/x": b"5",
    }
    suffix = "tar.gz" if make is tar_of else "zip"
    archive = (tar_of if make is tar_of else zip_of)(tmp_path / f"x.{suffix}", members)
    extract_archive(archive, tmp_path / "out", wrapping=("own",))
    assert tree(tmp_path / "out") == {"0.npy": b"3"}
