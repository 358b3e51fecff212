"""Molecules: read from a structure file with rdkit, stored flat, batched as complete graphs."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from common.device_copies import copy_to_device
from common.errors import UserError

ELEMENTS = ("H", "C", "N", "O", "F")
BONDS = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")  # stored as 1 to 4; 0 is no bond
ATOM_FEATURES = len(ELEMENTS) + 6
EDGE_FEATURES = len(BONDS) + 1
INSTALL = "pip install -r requirements-qm9.txt"


class MoleculeBatch(NamedTuple):
    """Molecules as complete graphs, side by side.

    Args:
        x: Features of the atoms, ``(atoms, 11)``: H, C, N, O, F one-hot; atomic number; aromatic;
            hybridised sp, sp2, sp3; number of bonded hydrogens.
        positions: Of the atoms in Angstrom, ``(atoms, 3)``.
        edge_index: The pair of atoms of each edge, ``(2, edges)`` int64, sorted; every ordered
            pair of different atoms of a molecule is one.
        edge_attr: ``(edges, 5)``: single, double, triple, aromatic bond one-hot (all 0 without a
            bond); distance in Angstrom.
        molecule: Each atom's molecule in the batch, ``(atoms,)`` int64, ascending.
        molecules: The number of molecules, ``b``.
        largest: The number of atoms of the largest one.
    """

    x: Tensor
    positions: Tensor
    edge_index: Tensor
    edge_attr: Tensor
    molecule: Tensor
    molecules: int
    largest: int


class Molecule(NamedTuple):
    """One molecule.

    Args:
        x: Features of its atoms, ``(atoms, 11)`` uint8.
        positions: In Angstrom, ``(atoms, 3)`` float32.
        bonds: Kind of bond of each ordered pair of atoms, ``(atoms, atoms)`` uint8.
    """

    x: np.ndarray
    positions: np.ndarray
    bonds: np.ndarray


class SdfEntry(NamedTuple):
    """An entry of a structure file.

    Args:
        name: The molecule's name.
        molecule: The molecule; None where it was skipped or cannot be read.
        fault: Why it cannot be read, with file and line; empty otherwise.
    """

    name: str
    molecule: Molecule | None = None
    fault: str = ""


class RaggedMolecules:
    """Molecules one after another in flat arrays, which may be memory-mapped.

    Args:
        x: ``(atoms, 11)`` uint8.
        positions: ``(atoms, 3)`` float32.
        bonds: The pairs of :class:`Molecule`, flat, ``(sum of squared sizes,)`` uint8.
        sizes: Atoms of each molecule, ``(n,)`` int64.
    """

    def __init__(self, x: Tensor, positions: Tensor, bonds: Tensor, sizes: Tensor) -> None:
        self.x, self.positions, self.bonds = x, positions, bonds
        self.sizes = sizes.cpu()  # a batch's size is found without asking the device
        self._sizes = sizes.to(x.device)
        self._starts = _start_offsets(self._sizes)
        self._bond_starts = _start_offsets(self._sizes.square())

    def __len__(self) -> int:
        """Return the number of molecules."""
        return len(self.sizes)

    def __getitem__(self, index: Tensor) -> MoleculeBatch:
        """Return the molecules ``index``, ``(b,)`` int64; host indices do not synchronize."""
        host = self.sizes[index.cpu()]
        atoms, edges = int(host.sum()), int((host * (host - 1)).sum())
        index = copy_to_device(index, self.x.device)
        sizes = self._sizes[index]
        molecule, within = _number_elements(sizes, atoms)
        source = self._starts[index][molecule] + within
        positions = self.positions[source]
        owner, place = _number_elements(sizes * (sizes - 1), edges)
        size = sizes[owner]
        row = place // (size - 1)
        column = place % (size - 1)
        column = column + (column >= row)  # leaves out the atom itself
        edge_index = torch.stack([row, column]) + _start_offsets(sizes)[owner]
        kinds = self.bonds[self._bond_starts[index][owner] + row * size + column].long()
        bonded = torch.nn.functional.one_hot(kinds, len(BONDS) + 1)[:, 1:].to(positions)
        distance = (positions[edge_index[0]] - positions[edge_index[1]]).norm(dim=1, keepdim=True)
        edge_attr = torch.cat([bonded, distance], dim=1)
        x = self.x[source].to(positions)
        largest = int(host.max()) if len(host) else 0
        return MoleculeBatch(x, positions, edge_index, edge_attr, molecule, len(index), largest)

    @property
    def nbytes(self) -> int:
        """The bytes that all arrays take."""
        arrays = (self.x, self.positions, self.bonds, self._sizes, self._starts, self._bond_starts)
        return sum(array.nbytes for array in arrays)

    def to(self, device: torch.device) -> Self:
        """Return the molecules with everything but ``sizes`` on ``device``."""
        x, positions, bonds = (a.to(device) for a in (self.x, self.positions, self.bonds))
        return type(self)(x, positions, bonds, self.sizes)

    def slice_range(self, start: int, stop: int) -> Self:
        """Return the molecules from ``start`` up to ``stop``, without copying."""
        atoms = [int(self.sizes[:end].sum()) for end in (start, stop)]
        pairs = [int(self.sizes[:end].square().sum()) for end in (start, stop)]
        return type(self)(
            self.x[slice(*atoms)],
            self.positions[slice(*atoms)],
            self.bonds[slice(*pairs)],
            self.sizes[start:stop],
        )


def _start_offsets(sizes: Tensor) -> Tensor:
    """Return where each of consecutive pieces starts, ``(n,)``."""
    return sizes.cumsum(0) - sizes


def _number_elements(sizes: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """Return for each element of consecutive pieces its piece and its place in it, ``(total,)``."""
    numbers = torch.arange(len(sizes), device=sizes.device)
    piece = torch.repeat_interleave(numbers, sizes, output_size=total)
    return piece, torch.arange(total, device=sizes.device) - _start_offsets(sizes)[piece]


class _UnreadableMolecule(Exception):
    """A molecule without the atoms, positions or bonds that QM9's molecules have."""


def read_sdf(path: Path, skipped: Collection[int] = frozenset()) -> Iterator[SdfEntry]:
    """Yield the molecules of a structure file (SDF, V2000) unchanged, without sanitizing.

    Args:
        path: The file.
        skipped: The indices, from 0, of molecules that are not parsed.

    Raises:
        UserError: If rdkit is missing, or the file is no structure file.
    """
    try:
        from rdkit import Chem, rdBase
    except ImportError:
        raise UserError(f"{path}: rdkit is needed to read it; run: {INSTALL}") from None
    with rdBase.BlockLogs():
        try:
            supplier = Chem.SDMolSupplier(str(path), removeHs=False, sanitize=False)
        except OSError:  # rdkit's own words for an empty file
            raise UserError(f"{path}: cannot be read, expected a structure file (SDF)") from None
        line = 1
        for number in range(len(supplier)):
            text = supplier.GetItemText(number)
            name = text.split("\n", 1)[0].strip()
            if number in skipped:
                yield SdfEntry(name)
            else:
                try:
                    yield SdfEntry(name, _convert_molecule(supplier[number]))
                except _UnreadableMolecule as error:
                    where = f"{path}: molecule {number + 1} ('{name}', from line {line})"
                    yield SdfEntry(name, fault=f"{where}: {error}")
            line += text.count("\n")


def _convert_molecule(found: Any) -> Molecule:
    """Return a molecule of rdkit's.

    Raises:
        _UnreadableMolecule: If rdkit could not read it, or it has other atoms or bonds.
    """
    if found is None or not found.GetNumConformers():
        raise _UnreadableMolecule("cannot be read, expected an SDF entry (V2000)")
    atoms = list(found.GetAtoms())
    symbols = [atom.GetSymbol() for atom in atoms]
    strange = sorted({symbol for symbol in symbols if symbol not in ELEMENTS})
    if strange:
        raise _UnreadableMolecule(f"atoms {', '.join(strange)}, expected {', '.join(ELEMENTS)}")
    positions = found.GetConformer().GetPositions().astype(np.float32)
    if not atoms or not np.isfinite(positions).all():
        raise _UnreadableMolecule("no atoms, or positions that are no numbers")
    bonds = np.zeros((len(atoms), len(atoms)), dtype=np.uint8)
    for bond in found.GetBonds():
        kind = bond.GetBondType().name
        if kind not in BONDS:
            raise _UnreadableMolecule(f"a bond of kind {kind}, expected {', '.join(BONDS)}")
        pair = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        bonds[pair] = bonds[pair[::-1]] = BONDS.index(kind) + 1
    return Molecule(_atom_features(atoms, symbols, bonds), positions, bonds)


def _atom_features(atoms: list[Any], symbols: list[str], bonds: np.ndarray) -> np.ndarray:
    """Return the features of a molecule's atoms, ``(atoms, 11)`` uint8."""
    x = np.zeros((len(atoms), ATOM_FEATURES), dtype=np.uint8)
    x[np.arange(len(atoms)), [ELEMENTS.index(symbol) for symbol in symbols]] = 1
    x[:, 5] = [atom.GetAtomicNum() for atom in atoms]
    x[:, 6] = [atom.GetIsAromatic() for atom in atoms]
    hybrids = [atom.GetHybridization().name for atom in atoms]
    for column, kind in enumerate(("SP", "SP2", "SP3"), start=7):
        x[:, column] = [hybrid == kind for hybrid in hybrids]
    x[:, 10] = (bonds[x[:, 0] == 1] > 0).sum(axis=0)
    return x
