"""Random molecules in the files of QM9."""

from pathlib import Path

import numpy as np

COLUMNS = [
    "mol_id",
    "A",
    "B",
    "C",
    "mu",
    "alpha",
    "homo",
    "lumo",
    "gap",
    "r2",
    "zpve",
    "u0",
    "u298",
    "h298",
    "g298",
    "cv",
    "u0_atom",
    "u298_atom",
    "h298_atom",
    "g298_atom",
]
HEADER = ["a line of text"] * 9


def entry(name: str, random: np.random.RandomState, atoms: int | None = None) -> str:
    """Return one SDF entry: random atoms, at random places, with random bonds."""
    atoms = atoms or random.randint(1, 8)
    symbols = random.choice(["H", "C", "N", "O", "F"], size=atoms)
    places = random.standard_normal((atoms, 3)) * 2
    pairs = [(i, j) for i in range(atoms) for j in range(i) if random.rand() < 0.4]
    lines = [name, "     test", "", f"{atoms:3d}{len(pairs):3d}  0  0  0  0  0  0  0  0999 V2000"]
    for symbol, place in zip(symbols, places, strict=True):
        coordinates = "".join(f"{value:10.4f}" for value in place)
        lines.append(f"{coordinates} {symbol:<3} 0  0  0  0  0  0  0  0  0  0  0  0")
    lines += [f"{i + 1:3d}{j + 1:3d}{random.randint(1, 5):3d}  0" for i, j in pairs]
    return "\n".join([*lines, "M  END", "$$$$", ""])


def write(root: Path, molecules: int, seed: int = 0, skipped: tuple[int, ...] = ()) -> np.ndarray:
    """Write QM9's three files below ``root/qm9/raw``; return the table's numbers.

    Args:
        root: The data root.
        molecules: How many.
        seed: Of everything random.
        skipped: The numbers, from 1, of the molecules listed as uncharacterized.
    """
    random = np.random.RandomState(seed)
    raw = root / "qm9" / "raw"
    raw.mkdir(parents=True)
    names = [f"gdb_{i + 1}" for i in range(molecules)]
    (raw / "gdb9.sdf").write_text("".join(entry(name, random) for name in names))
    numbers = random.standard_normal((molecules, 19)) * 10
    rows = [",".join([n, *map(repr, row)]) for n, row in zip(names, numbers.tolist(), strict=True)]
    (raw / "gdb9.sdf.csv").write_text("\n".join([",".join(COLUMNS), *rows, ""]))
    listed = [f"  {number}  C1=CC=CC=C1 x x" for number in skipped]
    (raw / "uncharacterized.txt").write_text(
        "\n".join([*HEADER, *listed, "end" if listed else "none", ""])
    )
    return numbers
