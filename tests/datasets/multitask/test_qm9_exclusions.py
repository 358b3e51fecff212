"""QM9's list of excluded molecules, in the forms that people have it."""

from pathlib import Path

import pytest

from common.errors import UserError
from datasets.multitask.qm9 import read_skipped

PUBLISHED_HEAD = """



List of molecules among the 133885 GDB9 molecules for which the Corina generated Cartesian
coordinates and the B3LYP/6-31G(2df,p) equilibrium geometry lead to different SMILES. Given are the
original GDB17 SMILES, as well as the L1 norm of the difference between the Coulomb matrices.

============================================================
#   Index        GDB17 SMILES    SMILES for B3LYP XYZ    D_IJ
============================================================
"""
RULE = "=" * 60


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "text",
    [
        "\n".join(map(str, range(10, 40))),
        "\n".join(map(str, range(10, 40))) + "\n\n\n",
        "\n# mine\n" + "\n\n".join(f"  {i}" for i in range(10, 40)) + "  # the last",
        "Index\n" + "\n".join(map(str, range(10, 40))) + "\nend",
        PUBLISHED_HEAD + "\n".join(f"  {i}  NC(=N)C#N  1.5 " for i in range(10, 40)) + f"\n{RULE}",
        "30 molecules:\n" + "\n".join(map(str, range(10, 40))),
        "\ufeff" + "\n".join(map(str, range(10, 40))) + "\nList of 30 odd molecules\n",
    ],
)
def test_every_number_of_the_list_counts(tmp_path: Path, text: str, end: str) -> None:
    path = tmp_path / "uncharacterized.txt"
    path.write_bytes(text.replace("\n", end).encode())
    assert read_skipped(path, 133_885) == set(range(9, 39))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10\nabc\n12", "line 2: received 'abc', expected the number of one of the 100 molecules"),
        ("10\n11\nabc", "line 3: received 'abc'"),
        ("1O\n11", "line 1: received '1O'"),
        ("10\n12a", "line 2: received '12a'"),
        ("10\n-5", "line 2: received '-5'"),
        ("10\n0", "line 2: received '0'"),
        ("10\n1.5", "line 2: received '1.5'"),
        ("10\n101", "line 2: received '101'"),
        ("10 11 12", "line 1: received '10 11 12'"),
        ("10,11,12", "line 1: received '10,11,12'"),
        ("gdb_10\ngdb_11\n12", "line 1: received 'gdb_10'"),
        ("odd ones\ngdb_10 C1\n12", "line 2: received 'gdb_10 C1'"),
        ("mol10", "line 1: received 'mol10'"),
        ("a list of 3 molecules\n10\n11", "lists 2 molecules, expected 3, as its text says"),
        ("10\n11\n12 molecules", "lists 2 molecules, expected 12"),
        ("10\n11\n\n3,054 odd compounds\n", "lists 2 molecules, expected 3,054"),
        ("[10, 11]\n", "line 1: received '[10, 11]'"),
        ("- 10\n- 11\n", "line 1: received '- 10', expected the number of one of"),
        ("\nmol 10\n", "line 2: received 'mol 10'"),
        ("No. 10\nNo. 11\n", "line 1: received 'No. 10'"),
        ("No.10 C1\n11 C1\n", "line 1: received 'No.10 C1'"),
        ("molecules (10, 11)\n12\n", "line 1: received 'molecules (10, 11)'"),
        ("none\nmol 10\n", "line 2: received 'mol 10'"),
        ("Index\n10\nmol 11\n", "line 3: received 'mol 11'"),
        ("#10\n#11\n", "no molecule numbers found (line 1 is '#10'), expected one at the start"),
        ("\n# No. 10, none else\n", "no molecule numbers found (line 2 is '# No. 10, none else')"),
        ("=====\nthe list\n", "no molecule numbers found (line 1 is '=====')"),
        ("ten\neleven\n", "no molecule numbers found (line 1 is 'ten')"),
        (PUBLISHED_HEAD, "no molecule numbers found (line 5 is 'List of molecules among"),
        ("", "no molecule numbers found: empty, expected one"),
        (" \n\n", "no molecule numbers found: empty, expected one"),
    ],
)
def test_a_list_that_is_not_understood_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "uncharacterized.txt"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_skipped(path, 100)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["none\n", "# None of the 100 molecules\n", "excluded in this subset: none\n" + "\n" * 9,
     "No molecules are left out.", "0 molecules\n"],
)  # fmt: skip
def test_a_list_of_no_molecules_says_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "uncharacterized.txt"
    path.write_text(text)
    assert read_skipped(path, 100) == set()
