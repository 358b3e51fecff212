"""Ragged molecules against loops over atoms."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from datasets.storage.molecules import MoleculeBatch, RaggedMolecules


def molecules(sizes: Sequence[int], seed: int) -> RaggedMolecules:
    """Return random molecules of these sizes."""
    random = np.random.RandomState(seed)
    atoms = sum(sizes)
    bonds = []
    for size in sizes:
        upper = np.triu(random.randint(0, 5, size=(size, size)), 1)
        bonds.append((upper + upper.T).ravel())
    return RaggedMolecules(
        torch.from_numpy(random.randint(0, 9, size=(atoms, 11)).astype(np.uint8)),
        torch.from_numpy(random.standard_normal((atoms, 3)).astype(np.float32)),
        torch.from_numpy(np.concatenate([*bonds, []]).astype(np.uint8)),
        torch.tensor(sizes, dtype=torch.int64),
    )


def plain(ragged: RaggedMolecules, chosen: Sequence[int]) -> tuple[list[Tensor], ...]:
    """Return atoms, positions, molecules, edges and their features, made one by one."""
    lists: tuple[list[Tensor], ...] = ([], [], [], [], [])
    x, positions, molecule, edges, features = lists
    sizes = ragged.sizes.tolist()
    for place, number in enumerate(chosen):
        first, pairs = sum(sizes[:number]), sum(size**2 for size in sizes[:number])
        before = len(x)
        for i in range(sizes[number]):
            x.append(ragged.x[first + i].float())
            positions.append(ragged.positions[first + i])
            molecule.append(torch.tensor(place))
        for i in range(sizes[number]):
            for j in range(sizes[number]):
                if i == j:
                    continue
                kind = int(ragged.bonds[pairs + i * sizes[number] + j])
                distance = (positions[before + i] - positions[before + j]).norm()
                bonded = [float(kind == known) for known in (1, 2, 3, 4)]
                edges.append(torch.tensor([before + i, before + j]))
                features.append(torch.tensor([*bonded, float(distance)]))
    return lists


def equal(found: Tensor, expected: list[Tensor]) -> None:
    if expected:
        torch.testing.assert_close(found, torch.stack(expected), rtol=1e-6, atol=1e-6)
    else:
        assert len(found) == 0


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=6),
    picks=st.lists(st.integers(0, 99), max_size=6),
    seed=st.integers(0, 99),
)
def test_batches_are_complete_graphs(sizes: list[int], picks: list[int], seed: int) -> None:
    ragged = molecules(sizes, seed)
    chosen = [pick % len(sizes) for pick in picks]
    batch = ragged[torch.tensor(chosen, dtype=torch.int64)]
    found = (batch.x, batch.positions, batch.molecule, batch.edge_index.T, batch.edge_attr)
    for tensor, expected in zip(found, plain(ragged, chosen), strict=True):
        equal(tensor, expected)
    assert batch.molecules == len(chosen)
    assert batch.largest == max((sizes[pick] for pick in chosen), default=0)


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=7), cuts=st.data())
def test_a_part_is_the_same_molecules(sizes: list[int], cuts: st.DataObject) -> None:
    ragged = molecules(sizes, 0)
    start = cuts.draw(st.integers(0, len(sizes) - 1))
    stop = cuts.draw(st.integers(start + 1, len(sizes)))
    part = ragged.slice_range(start, stop)
    assert len(part) == stop - start
    same(part[torch.arange(len(part))], ragged[torch.arange(start, stop)])
    assert part.x.data_ptr() == ragged.x[int(ragged.sizes[:start].sum()) :].data_ptr()


def same(one: MoleculeBatch, other: MoleculeBatch) -> None:
    for found, expected in zip(one, other, strict=True):
        if isinstance(found, Tensor) and isinstance(expected, Tensor):
            assert torch.equal(found, expected)
        else:
            assert found == expected


def test_store_says_what_it_takes() -> None:
    ragged = molecules([3, 1, 4], 0)
    assert ragged.nbytes == 8 * 11 + 8 * 12 + 26 + 3 * 3 * 8
    same(ragged.to(torch.device("cpu"))[torch.tensor([2, 0])], ragged[torch.tensor([2, 0])])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator")
def test_batches_are_the_same_on_a_device() -> None:
    ragged = molecules([3, 1, 4, 7], 0)
    index = torch.tensor([2, 0, 3, 3, 1])
    there = ragged.to(torch.device("cuda"))[index]
    for found, expected in zip(there, ragged[index], strict=True):
        if isinstance(found, Tensor) and isinstance(expected, Tensor):
            torch.testing.assert_close(found.cpu(), expected)
