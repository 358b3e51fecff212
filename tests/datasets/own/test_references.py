"""Names of own data: every way to write a folder gives one name, and finds the same data."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from core import __main__ as core_command
from datasets import describe, prepare
from datasets.own.references import find_own_data
from tuning.cli.ls import run_ls
from tuning.cli.show import run_show

ODD_NAMES = ["my texts", "v\u00f6gel", "a.b.c", "it's", "\u9ce5", ".hidden", "folder", "erm"]


def write_images(folder: Path, shade: int = 0) -> None:
    """Write 24 images of two classes and two attributes, all groups in each split."""
    folder.mkdir(parents=True)
    lines = ["id,filename,split,y,a"]
    for i in range(24):
        Image.fromarray(np.full((8, 8, 3), 10 * (i % 2) + shade, np.uint8)).save(
            folder / f"{i}.png"
        )
        lines.append(f"{i},{i}.png,{i // 4 % 3},{i % 2},{i // 2 % 2}")
    (folder / "metadata.csv").write_text("\n".join(lines))


@pytest.mark.parametrize("name", ODD_NAMES)
def test_all_ways_to_write_a_folder_give_one_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"
    (root / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "link").symlink_to(root)
    ways = [
        f"folder:{name}", f"folder:{name}/", f"folder:./{name}", f"data/{name}", f"./data/{name}/",
        f"{root}/{name}", f"data/../data/{name}", f"~/data/{name}", f"link/{name}",
    ]  # fmt: skip
    for way in ways:
        own = find_own_data(way, Path("data"))
        assert own is not None
        assert own.name == own.reference == ("folder" if name == "folder" else f"folder:{name}"), (
            way
        )
        assert own.path.samefile(root / name)


def test_a_folder_elsewhere_is_found_by_its_path(tmp_path: Path) -> None:
    for text in (f"{tmp_path}/a/b", f"folder:{tmp_path}/a/b/", f"{tmp_path}//a/./b"):
        own = find_own_data(text, tmp_path)
        assert own is not None
        assert (own.name, own.reference) == ("folder:b", f"{tmp_path}/a/b")
    own = find_own_data("folder:a/b", tmp_path)
    assert own is not None
    assert own.path == tmp_path / "a" / "b"


@pytest.mark.parametrize("text", ["folder:", "folder: ", "/", "$NOT_SET/x", "./a\nb"])
def test_names_of_no_folder_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data set '"):
        find_own_data(text, tmp_path)


def test_a_forgotten_prefix_is_suggested(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "birds")
    assert prepare.main(["birds", "--data-root", str(tmp_path)]) == 2
    assert "unknown data set 'birds'" in (error := capsys.readouterr().err)
    assert f"for the folder {tmp_path / 'birds'} write folder:birds" in error


def test_a_misspelled_name_is_suggested(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path / "birds")
    assert prepare.main(["folder:brids", "--data-root", str(tmp_path)]) == 1
    assert "brids: missing (did you mean 'folder:birds'?)" in capsys.readouterr().err
    assert prepare.main(["brids", "--data-root", str(tmp_path)]) == 2
    assert (
        "own data: folder:NAME, or a path with a slash such as ./brids" in capsys.readouterr().err
    )


def test_all_commands_take_and_print_the_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "own" / "my birds")
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    root = ["--data-root", str(tmp_path / "data")]
    assert prepare.main(["own/my birds", *root]) == 0
    assert capsys.readouterr().out == f"folder:my birds: complete ({tmp_path}/own/my birds)\n"
    assert describe.main(["./own/my birds/", *root]) == 0
    assert "folder:my birds, version" in capsys.readouterr().out
    given = ["--method", "erm", "--dataset", "own/my birds", "--epochs", "1", "--json"]
    given += ["--set", "model=tiny_vit", *root]
    assert core_command.main(given) == 0
    assert '"dataset": "folder:my birds"' in capsys.readouterr().out
    assert run_show(["erm", "--dataset", "own/my birds", *root]) == 0
    assert "search space on folder:my birds:" in capsys.readouterr().out
    (tmp_path / "own" / "my birds").rename(tmp_path / "data" / "my birds")
    assert run_ls(["datasets", *root]) == 0
    assert "| folder:my birds" in capsys.readouterr().out
