"""``qm9``: eleven properties of small molecules, predicted together.

Ramakrishnan, Dral, Rupp & von Lilienfeld, Quantum chemistry structures and properties of 134 kilo
molecules, Scientific Data 2014, in the files that MoleculeNet and PyTorch Geometric read:
``raw/gdb9.sdf``, ``raw/gdb9.sdf.csv`` and ``raw/uncharacterized.txt``. Targets, units and splits as
in Navon et al., Multi-Task Learning as a Bargaining Game, ICML 2022, and the code after it.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor

from common.errors import UserError, ValidationErrors, truncate_problems
from common.files import read_text
from common.hyperparameters import Hyperparameter
from datasets.benchmark import SPLITS, Split
from datasets.data_card import DataCard
from datasets.formats.csv_tables import read_csv
from datasets.multitask.base import TaskBenchmark
from datasets.multitask.metrics import AbsoluteError, Accumulator
from datasets.multitask.task import Task
from datasets.on_disk import OnDisk
from datasets.storage.array_cache import ArrayWriter
from datasets.storage.molecules import (
    ATOM_FEATURES,
    Molecule,
    RaggedMolecules,
    SdfEntry,
    read_sdf,
)
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
MAX_UNREADABLE_SHARE = 0.01  # of the molecules; with more of them, the files are refused
ALL_MOLECULES, ALL_SKIPPED = 133_885, 3054  # of the published files
MAX_TEXT_LINES = 9  # before the numbers in uncharacterized.txt
COUNTED = ("molecules", "molecule", "compounds", "structures", "entries", "indices")
STATED_COUNT = re.compile(rf"\b(\d[\d,]*) (?:\w+ )?(?:{'|'.join(COUNTED)})\b", re.IGNORECASE)
STATES_NONE = re.compile(rf"\bnone\b|\bno (?:{'|'.join(COUNTED)})\b", re.IGNORECASE)
# Not those of GDB17, 6-31G and 2.3.2.
PLAIN_NUMBER = re.compile(r"(?<![\w-])(?<!\d\.)\d+(?!\w|\.\d|-\d*[a-z])", re.IGNORECASE)
LIKE_ENTRY = re.compile(r"[-+.]*\d|\w*_\d+( |\Z)|\S*\d\S*\Z")  # a number or a name
# RandomState, unlike torch's generators, promises the same stream for ever.
SPLIT_SEED = 0


class _Scales(NamedTuple):
    """Mean and deviation of the training targets, ``(11,)`` each."""

    mean: Tensor
    deviation: Tensor


class QM9(OnDisk, TaskBenchmark):
    """Eleven regressions on 130,831 molecules."""

    name = "qm9"
    version = "1"
    folder_name = "qm9"
    other_folder_names = ("QM9",)
    landmarks = ("raw",)
    modality = "molecules"
    published_rule = "validation_delta_m"
    is_scaled = True  # whether models learn z-scored targets
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
        license="CC0",
        paper="Ramakrishnan et al., Scientific Data 2014; as tasks: Navon et al., ICML 2022",
        notes=(
            "Errors are mean absolute: mu in D, alpha in a0^3, r2 in a0^2, cv in cal/(mol K), the "
            "energies homo, lumo, zpve, u0, u, h, g in meV.",
            "u0, u, h and g are atomization energies.",
            "Models see targets scaled by the training split's mean and deviation.",
            "The 3,054 molecules listed as uncharacterized are left out.",
        ),
        sizes={"train": 110_831, "validation": 10_000, "test": 10_000},
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
        """Return the mistakes in the files; reads all molecules."""
        if self.find_problems():
            return []
        try:
            self._read_files()
        except ValidationErrors as error:
            return error.problems
        except UserError as error:
            return [str(error)]
        return []

    def list_notices(self) -> list[str]:
        """Return a sentence if the list is not the published one of all molecules."""
        _, table, listed = self.list_source_files()
        molecules = len(read_targets(table)[0])
        count = len(read_skipped(listed, molecules))
        if molecules != ALL_MOLECULES or count == ALL_SKIPPED:
            return []
        return [
            f"{listed}: lists {count:,} molecules, the published file {ALL_SKIPPED:,}: results are "
            "not comparable with published ones",
        ]

    def _read_files(self) -> tuple[np.ndarray, list[Molecule], list[str]]:
        """Return the targets, ``(n, 11)``, of the molecules that are kept, these and their names.

        Raises:
            UserError: If a file is malformed, or too many molecules cannot be read.
        """
        sdf, table, listed = self.list_source_files()
        names, targets = read_targets(table)
        skipped = read_skipped(listed, len(names))
        limit = MAX_UNREADABLE_SHARE * (len(names) - len(skipped))
        rows: list[int] = []
        molecules: list[Molecule] = []
        faults: list[str] = []
        for row, entry in enumerate(_check_names(read_sdf(sdf, skipped), names, sdf, table)):
            if entry.molecule is not None:
                rows.append(row)
                molecules.append(entry.molecule)
            elif entry.fault:
                faults.append(entry.fault)
        if len(faults) > limit:
            raise truncate_problems(faults)
        for sentence in faults:
            print(f"{self.name}: left out: {sentence}", file=sys.stderr)
        if faults:
            count = f"{len(faults):,} of {len(faults) + len(molecules):,}"
            print(f"{self.name}: {count} molecules left out", file=sys.stderr)
        return targets[rows], molecules, [names[row] for row in rows]

    @property
    def cache_parameters(self) -> Mapping[str, Any]:
        """The seed of the molecules' order, and how the list of excluded ones is read."""
        return {"split_seed": SPLIT_SEED, "list": 3, "names": 1}

    def write_arrays(self, writer: ArrayWriter) -> None:
        """Write the molecules in the order test, validation, training, as permuted."""
        targets, kept, names = self._read_files()
        if len(kept) < len(SPLITS):
            raise UserError(
                f"{self.raw_folder}: {len(kept)} molecules, expected at least one for each split"
            )
        order = np.random.RandomState(SPLIT_SEED).permutation(len(kept))
        molecules = [kept[place] for place in order]
        rows = targets[order]
        train = rows[2 * count_held_out(len(rows)) :]
        writer.write_array("targets", rows)
        writer.write_array("names", _encode_names([names[place] for place in order]))
        writer.write_array("scales", np.stack([train.mean(axis=0), train.std(axis=0, ddof=1)]))
        _write_molecules(writer, molecules)

    def configure(self, config: TrainingConfig) -> "QM9":
        """Return the benchmark with or without scaled targets."""
        return self._unscaled if config.unscaled_targets else self

    @cached_property
    def _unscaled(self) -> "QM9":
        found = type(self)(self.data_root, self._baseline)
        found.is_scaled = False
        return found

    def load_splits(self) -> dict[str, Split]:
        """Return the splits: ragged molecules as inputs, targets ``(n,)`` float32."""
        arrays = self.cache.arrays
        molecules = RaggedMolecules(
            *(arrays[name] for name in ("x", "positions", "bonds", "sizes"))
        )
        mean, deviation = self._scales
        targets = arrays["targets"]
        scaled = ((targets - mean) / deviation if self.is_scaled else targets).float()
        return {
            split: Split(
                molecules.slice_range(rows.start, rows.stop),
                dict(zip(TARGETS, scaled[rows].T.contiguous(), strict=True)),
            )
            for split in SPLITS
            for rows in [_find_rows(split, len(molecules))]
        }

    def list_ids(self, split: str) -> list[str]:
        """Return the names of a split's molecules in the files, such as ``gdb_42``."""
        names = self.cache.arrays["names"].numpy()
        return [bytes(name).rstrip(b"\0").decode() for name in names[_find_rows(split, len(names))]]

    @cached_property
    def deviations(self) -> dict[str, float]:
        """The unit of each target: its deviation in training, or 1 if it is not scaled."""
        if not self.is_scaled:
            return dict.fromkeys(TARGETS, 1.0)
        return dict(zip(TARGETS, self._scales.deviation.tolist(), strict=True))

    @property
    def _scales(self) -> "_Scales":
        return _Scales(*self.cache.arrays["scales"])

    def make_accumulators(self) -> dict[str, Accumulator]:
        """Return mean absolute errors in the reported units."""
        return {
            name: AbsoluteError(f"mae_{name}", self.deviations[name] * REPORTED[name])
            for name in TARGETS
        }


def _find_rows(split: str, molecules: int) -> slice:
    """Return the rows of a split among all molecules: test, validation, training."""
    held = count_held_out(molecules)
    ends = {"test": (0, held), "validation": (held, 2 * held), "train": (2 * held, molecules)}
    return slice(*ends[split])


def _encode_names(names: Sequence[str]) -> np.ndarray:
    """Return names as bytes, ``(n, width)`` uint8, zeros at their ends."""
    encoded = np.array([name.encode() for name in names])
    return encoded.view(np.uint8).reshape(len(names), -1)


def count_held_out(molecules: int) -> int:
    """Return how many molecules test and validation have each."""
    return HELD_OUT if molecules >= ENOUGH else max(1, molecules // 10)


def read_targets(path: Path) -> tuple[list[str], np.ndarray]:
    """Return the molecules' names, and their targets ``(n, 11)`` float64.

    Raises:
        UserError: If a column is missing, or a value is no number.
    """
    columns = [column for column, _ in TARGETS.values()]
    table = read_csv(path, ["mol_id", *columns])
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
    return table.mol_id.str.strip().tolist(), numbers * units


def read_skipped(path: Path, molecules: int) -> set[int]:
    """Return the indices, from 0, of the molecules in the list of uncharacterized ones.

    A line holds a molecule's number, from 1, alone or before other columns. Blank lines, rules
    (``====``) and comments (``#``) have no meaning. As in the published file, text may precede the
    numbers, and end the file; its only numbers are counts of molecules. A list of no molecules says
    so (``none``).

    Args:
        path: The list.
        molecules: The number of molecules in the data set.

    Raises:
        UserError: If a line is none of these, no number is found, or the text states another
            number of molecules.
    """
    content = read_text(path)
    lines = [(number, line.split()) for number, line in enumerate(content.split("\n"), 1)]
    lines = [(number, words) for number, words in lines if not _is_blank(words)]
    found: set[int] = set()
    text: list[str] = []
    for number, words in lines:
        line = " ".join(words)
        states_count = STATED_COUNT.search(line)
        is_head = number <= MAX_TEXT_LINES and not found
        is_end = number == lines[-1][0] and (text or states_count)
        is_prose = not LIKE_ENTRY.match(line) and not PLAIN_NUMBER.search(line)
        if (is_head or is_end) and (states_count or is_prose):
            text.append(line)
        elif _is_entry(words, molecules):
            found.add(int(words[0]) - 1)
        else:
            raise UserError(
                f"{path}: line {number}: received '{line}', expected the number of one "
                f"of the {molecules} molecules, alone or before other columns, or # and a comment"
            )
    stated = {int(count.replace(",", "")) for count in STATED_COUNT.findall("\n".join(text))}
    stated -= {molecules, ALL_MOLECULES}
    if stated and len(found) not in stated:
        counts = " or ".join(f"{count:,}" for count in sorted(stated))
        raise UserError(
            f"{path}: lists {len(found):,} molecules, expected {counts}, as its text says: cut "
            "short?"
        )
    rest = STATED_COUNT.sub("", content)
    states_none = 0 in stated or (STATES_NONE.search(rest) and not PLAIN_NUMBER.search(rest))
    if not found and not states_none:
        raise UserError(
            f"{path}: no molecule numbers found{_quote_first_line(content)}, expected one at the "
            "start of a line for each excluded molecule, or 'none'"
        )
    return found


def _quote_first_line(content: str) -> str:
    """Return a remark that quotes the first line with text."""
    for number, line in enumerate(content.split("\n"), 1):
        if line.strip():
            return f" (line {number} is '{line.strip()[:60]}')"
    return ": empty"


def _is_blank(words: Sequence[str]) -> bool:
    """Return whether a line is blank, a comment or a rule."""
    return not words or words[0].startswith("#") or not any(c.isalnum() for c in "".join(words))


def _is_entry(words: Sequence[str], molecules: int) -> bool:
    """Return whether a line names one molecule; a line of several numbers is no entry."""
    numbers = [word for word in words if word.isascii() and word.isdigit()]
    is_one = numbers[:1] == words[:1] and (len(words) == 1 or len(numbers) < len(words))
    return is_one and 1 <= int(words[0]) <= molecules


def _check_names(
    entries: Iterable[SdfEntry], names: list[str], sdf: Path, table: Path
) -> Iterator[SdfEntry]:
    """Yield the entries, while their names match the table's.

    Raises:
        UserError: If number or names differ.
    """
    count = 0
    for entry in entries:
        if count < len(names) and entry.name != names[count]:
            raise UserError(
                f"{sdf}: molecule {count + 1} is '{entry.name}', but {table.name} has "
                f"'{names[count]}' in line {count + 2}"
            )
        count += 1
        yield entry
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
