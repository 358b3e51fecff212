"""``qm9``: eleven properties of small molecules, predicted together.

Ramakrishnan, Dral, Rupp & von Lilienfeld, Quantum chemistry structures and properties of 134 kilo
molecules, Scientific Data 2014, in the files that MoleculeNet and PyTorch Geometric read:
``raw/gdb9.sdf``, ``raw/gdb9.sdf.csv`` and ``raw/uncharacterized.txt``. Targets, units and splits as
in Navon et al., Multi-Task Learning as a Bargaining Game, ICML 2022, and the code after it.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from common.errors import UserError
from common.hyperparameters import Hyperparameter
from datasets.benchmark import SPLITS, Split
from datasets.data_card import DataCard
from datasets.multitask.base import TaskBenchmark
from datasets.multitask.metrics import AbsoluteError, Accumulator
from datasets.multitask.task import Task
from datasets.on_disk import OnDisk
from datasets.storage.array_cache import ArrayWriter
from datasets.storage.molecules import ATOM_FEATURES, Molecule, RaggedMolecules, read_sdf
from datasets.training_config import TrainingConfig

HARTREE, KCAL_PER_MOL = 27.2113825435, 0.04336414  # in eV
# Column of the file, and its unit in that in which targets are kept: D, a0^3, eV, a0^2, cal/(mol K)
TARGETS = {
    "mu": ("mu", 1.0),
    "alpha": ("alpha", 1.0),
    "homo": ("homo", HARTREE),
    "lumo": ("lumo", HARTREE),
    "r2": ("r2", 1.0),
    "zpve": ("zpve", HARTREE),
    "u0": ("u0_atom", KCAL_PER_MOL),
    "u": ("u298_atom", KCAL_PER_MOL),
    "h": ("h298_atom", KCAL_PER_MOL),
    "g": ("g298_atom", KCAL_PER_MOL),
    "cv": ("cv", 1.0),
}
# Errors of energies are reported in meV.
REPORTED = {name: 1.0 if unit == 1.0 else 1000.0 for name, (_, unit) in TARGETS.items()}
HELD_OUT, ENOUGH = 10_000, 30_000  # molecules of test and of validation; below, a tenth each
LIST_HEADER, LIST_FOOTER = 9, 2  # lines around the numbers in uncharacterized.txt
# RandomState, unlike torch's generators, promises the same stream for ever.
SPLIT_SEED = 0


class QM9(OnDisk, TaskBenchmark):
    """Eleven regressions on 130,831 molecules."""

    name = "qm9"
    version = "1"
    folder_name = "qm9"
    modality = "molecules"
    tasks = tuple(Task(name, "squared_error", 1, {f"mae_{name}": False}) for name in TARGETS)
    training_config = TrainingConfig(
        model="mpnn",
        epochs=300,
        lr=1e-3,
        weight_decay=0.0,
        batch_size=120,
        optimizer="adam",
        schedule="plateau",
    )
    search_space: ClassVar = {
        "lr": Hyperparameter("log_uniform", (3e-4, 3e-3), 1e-3),
        "batch_size": Hyperparameter("choice", (60, 120, 240), 120),
    }
    card = DataCard(
        title="Eleven quantum-chemical properties of small organic molecules, from their geometry.",
        source="QM9 (GDB-9) as raw/gdb9.sdf, gdb9.sdf.csv and uncharacterized.txt",
        licence="CC0",
        paper="Ramakrishnan et al., Scientific Data 2014; as tasks: Navon et al., ICML 2022",
        notes=(
            "Errors are mean absolute: mu in D, alpha in a0^3, r2 in a0^2, cv in cal/(mol K), the "
            "energies homo, lumo, zpve, u0, u, h, g in meV.",
            "u0, u, h and g are atomisation energies.",
            "Models see targets scaled by the training split's mean and deviation.",
            "The 3,054 molecules listed as uncharacterised are left out.",
        ),
    )

    @property
    def raw_folder(self) -> Path:
        """The folder of the files."""
        return self.folder / "raw"

    def list_source_files(self) -> list[Path]:
        """Return the three files."""
        return [
            self.raw_folder / name for name in ("gdb9.sdf", "gdb9.sdf.csv", "uncharacterized.txt")
        ]

    def find_problems(self) -> list[str]:
        """Return which files are missing."""
        return [f"{path}: missing" for path in self.list_source_files() if not path.is_file()]

    def verify_files(self) -> list[str]:
        """Return the first mistake in the files; reads all molecules."""
        if self.find_problems():
            return []
        try:
            for _ in self._read_files()[1]:
                pass
        except UserError as error:
            return [str(error)]
        return []

    def _read_files(self) -> tuple[np.ndarray, Iterator[tuple[int, Molecule]]]:
        """Return all targets, ``(n, 11)``, and the characterised molecules with their rows."""
        sdf, table, listed = self.list_source_files()
        names, targets = read_targets(table)
        skipped = read_skipped(listed, len(names))
        molecules = enumerate(_check_names(read_sdf(sdf), names, sdf, table))
        return targets, (pair for pair in molecules if pair[0] not in skipped)

    @property
    def cache_parameters(self) -> Mapping[str, Any]:
        """The seed of the molecules' order."""
        return {"split_seed": SPLIT_SEED}

    def write_arrays(self, writer: ArrayWriter) -> None:
        """Write the molecules in the order test, validation, training, as permuted."""
        targets, characterised = self._read_files()
        kept = list(characterised)
        if len(kept) < len(SPLITS):
            raise UserError(
                f"{self.raw_folder}: {len(kept)} molecules, expected at least one for each split"
            )
        order = np.random.RandomState(SPLIT_SEED).permutation(len(kept))
        molecules = [kept[place][1] for place in order]
        rows = targets[[kept[place][0] for place in order]]
        train = rows[2 * count_held_out(len(rows)) :]
        writer.write_array("targets", rows)
        writer.write_array("scales", np.stack([train.mean(axis=0), train.std(axis=0, ddof=1)]))
        _write_molecules(writer, molecules)

    def load_splits(self) -> dict[str, Split]:
        """Return the splits: ragged molecules as inputs, scaled targets ``(n,)`` float32."""
        arrays = self.cache.arrays
        molecules = RaggedMolecules(
            *(arrays[name] for name in ("x", "positions", "bonds", "sizes"))
        )
        mean, deviation = arrays["scales"]
        scaled = ((arrays["targets"] - mean) / deviation).float()
        held = count_held_out(len(molecules))
        ends = {
            "test": (0, held),
            "validation": (held, 2 * held),
            "train": (2 * held, len(molecules)),
        }
        return {
            split: Split(
                molecules.slice_range(*ends[split]),
                dict(zip(TARGETS, scaled[slice(*ends[split])].T.contiguous(), strict=True)),
            )
            for split in SPLITS
        }

    @cached_property
    def deviations(self) -> dict[str, float]:
        """The deviation of each training target in its own unit."""
        return dict(zip(TARGETS, self.cache.arrays["scales"][1].tolist(), strict=True))

    def make_accumulators(self) -> dict[str, Accumulator]:
        """Return mean absolute errors in the reported units."""
        return {
            name: AbsoluteError(f"mae_{name}", self.deviations[name] * REPORTED[name])
            for name in TARGETS
        }


def count_held_out(molecules: int) -> int:
    """Return how many molecules test and validation have each."""
    return HELD_OUT if molecules >= ENOUGH else max(1, molecules // 10)


def read_targets(path: Path) -> tuple[list[str], np.ndarray]:
    """Return the molecules' names, and their targets ``(n, 11)`` float64.

    Raises:
        UserError: If a column is missing, or a value is no number.
    """
    columns = [column for column, _ in TARGETS.values()]
    try:
        table = pd.read_csv(path, usecols=["mol_id", *columns])
    except (ValueError, UnicodeDecodeError) as error:  # pandas' own errors derive from it
        raise UserError(f"{path}: {error}") from None
    numbers = table[columns].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    wrong = np.argwhere(~np.isfinite(numbers))
    if len(wrong):
        row, column = wrong[0]
        found = table[columns[column]].iloc[row]
        raise UserError(
            f"{path}: line {row + 2}, column {columns[column]}: received '{found}', expected a "
            f"number ({len(wrong)} such values)"
        )
    units = np.array([unit for _, unit in TARGETS.values()])
    return table.mol_id.astype(str).tolist(), numbers * units


def read_skipped(path: Path, molecules: int) -> set[int]:
    """Return the indices, from 0, of the molecules in the list of uncharacterised ones.

    Raises:
        UserError: If a line does not start with the number of a molecule.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: {error}") from None
    found = set()
    for number, line in enumerate(lines[LIST_HEADER:-LIST_FOOTER], start=LIST_HEADER + 1):
        first = (line.split() or [""])[0]
        if not first.isascii() or not first.isdigit() or not 1 <= int(first) <= molecules:
            raise UserError(
                f"{path}: line {number}: received '{line.strip()}', expected the number of one of "
                f"the {molecules} molecules"
            )
        found.add(int(first) - 1)
    return found


def _check_names(
    molecules: Iterable[Molecule], names: list[str], sdf: Path, table: Path
) -> Iterable[Molecule]:
    """Yield the molecules, while their names match the table's.

    Raises:
        UserError: If number or names differ.
    """
    count = 0
    for molecule in molecules:
        if count < len(names) and molecule.name != names[count]:
            raise UserError(
                f"{sdf}: molecule {count + 1} is '{molecule.name}', but {table.name} has "
                f"'{names[count]}' in line {count + 2}"
            )
        count += 1
        yield molecule
    if count != len(names):
        raise UserError(f"{sdf}: {count} molecules, but {table.name} has {len(names)} rows")


def _write_molecules(writer: ArrayWriter, molecules: list[Molecule]) -> None:
    sizes = np.array([len(molecule.x) for molecule in molecules], dtype=np.int64)
    writer.write_array("sizes", sizes)
    x = writer.create_array("x", (int(sizes.sum()), ATOM_FEATURES), np.uint8)
    positions = writer.create_array("positions", (int(sizes.sum()), 3), np.float32)
    bonds = writer.create_array("bonds", (int((sizes**2).sum()),), np.uint8)
    np.concatenate([molecule.x for molecule in molecules], out=x)
    np.concatenate([molecule.positions for molecule in molecules], out=positions)
    np.concatenate([molecule.bonds.ravel() for molecule in molecules], out=bonds)
