"""The message passing network agrees with loops over atoms and has the molecules' invariances."""

import math
import warnings

import pytest
import torch
from torch import Tensor, nn

from core.models.mpnn import MPNN
from core.models.mpnn_small import SmallMPNN
from datasets.storage.molecules import MoleculeBatch, RaggedMolecules
from tests.datasets.storage.test_molecules import molecules

TASKS = {"first": 1, "second": 1}


def convert_to_double(batch: MoleculeBatch) -> MoleculeBatch:
    return batch._replace(x=batch.x.double(), edge_attr=batch.edge_attr.double())


def predict(model: MPNN, batch: MoleculeBatch) -> Tensor:
    """Compute the outputs, ``(b, tasks)``."""
    outputs = model(batch).outputs
    assert not isinstance(outputs, Tensor)
    return torch.stack(list(outputs.values()), dim=1)


def make_batch(store: RaggedMolecules) -> MoleculeBatch:
    return convert_to_double(store[torch.arange(len(store))])


def compute_reference(model: MPNN, batch: MoleculeBatch, molecule: int) -> Tensor:
    """Compute the outputs of one molecule, ``(tasks,)``, atom by atom and edge by edge."""
    atoms = (batch.molecule == molecule).nonzero().flatten().tolist()
    width = model.embedding.out_features
    state = {i: model.embedding(batch.x[i]).relu() for i in atoms}
    edges = [edge.tolist() for edge in batch.edge_index.T]
    for _ in range(3):
        following = {}
        for i in atoms:
            received = [
                state[source] @ compute_edge_matrix(model, batch.edge_attr[number], width)
                for number, (source, target) in enumerate(edges)
                if target == i
            ]
            mean = sum(received) / len(received) if received else torch.zeros(width).double()
            message = (mean + model.messages.root(state[i])).relu()
            following[i] = step_gru(model.update, message, state[i])
        state = following
    query, memory, read = torch.zeros(3, width).double().unbind()
    read = torch.cat([query, read])
    for _ in range(3):
        query, memory = step_lstm(model.readout.lstm, read, query, memory)
        weights = [math.exp(state[i] @ query) for i in atoms]
        mean = sum(w * state[i] for w, i in zip(weights, atoms, strict=True)) / sum(weights)
        read = torch.cat([query, mean])
    last = model.last(read).relu()
    return torch.cat([head(last) for head in model.get_task_heads().values()])


def compute_edge_matrix(model: MPNN, edge: Tensor, width: int) -> Tensor:
    hidden = model.messages.edge_hidden(edge).relu()
    matrix: Tensor = model.messages.edge_matrix(hidden).view(width, width)
    return matrix


def step_gru(cell: nn.GRUCell, x: Tensor, h: Tensor) -> Tensor:
    """Compute a GRU step (Cho et al., 2014) with torch's order of gates."""
    given = (cell.weight_ih @ x + cell.bias_ih).chunk(3)
    kept = (cell.weight_hh @ h + cell.bias_hh).chunk(3)
    reset, update = ((a + b).sigmoid() for a, b in zip(given[:2], kept[:2], strict=True))
    return (1 - update) * (given[2] + reset * kept[2]).tanh() + update * h


def step_lstm(cell: nn.LSTMCell, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Compute an LSTM step (Hochreiter & Schmidhuber, 1997) with torch's order of gates."""
    gates = cell.weight_ih @ x + cell.bias_ih + cell.weight_hh @ h + cell.bias_hh
    entering, forgetting, new, leaving = gates.chunk(4)
    c = forgetting.sigmoid() * c + entering.sigmoid() * new.tanh()
    return leaving.sigmoid() * c.tanh(), c


@torch.no_grad()
def test_forward_agrees_with_loops() -> None:
    torch.manual_seed(0)
    model = MPNN(TASKS, width=6, hidden=5).double()
    nn.init.normal_(model.messages.root.bias)
    batch = make_batch(molecules([3, 1, 5, 2], seed=1))
    expected = torch.stack([compute_reference(model, batch, molecule) for molecule in range(4)])
    torch.testing.assert_close(predict(model, batch), expected, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_predictions_are_invariant_to_order_rotation_and_translation() -> None:
    torch.manual_seed(0)
    model = SmallMPNN(TASKS).double()
    store = molecules([6, 4], seed=2)
    positions = store.positions.double()
    before = predict(
        model,
        convert_to_double(RaggedMolecules(*replace_positions(store, positions))[torch.arange(2)]),
    )
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    moved = positions @ rotation.T + torch.tensor([5.0, -3.0, 1.0])
    after = predict(
        model, convert_to_double(RaggedMolecules(*replace_positions(store, moved))[torch.arange(2)])
    )
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)
    order = torch.tensor([3, 0, 5, 1, 4, 2, 8, 6, 9, 7])
    bonds = [store.bonds[:36].view(6, 6), store.bonds[36:].view(4, 4)]
    own = [order[:6], order[6:] - 6]
    shuffled = [b[o][:, o].flatten() for b, o in zip(bonds, own, strict=True)]
    other = RaggedMolecules(store.x[order], positions[order], torch.cat(shuffled), store.sizes)
    after = predict(model, convert_to_double(other[torch.arange(2)]))
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)
    stretched = RaggedMolecules(*replace_positions(store, positions * 1.1))
    assert not torch.allclose(
        predict(model, convert_to_double(stretched[torch.arange(2)])), before, rtol=1e-6
    )


def replace_positions(
    store: RaggedMolecules, positions: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return store.x, positions, store.bonds, store.sizes


@torch.no_grad()
def test_predictions_do_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    model = SmallMPNN(TASKS).double()
    store = molecules([5, 2, 8, 1], seed=3)
    together = predict(model, make_batch(store))
    for number in range(4):
        alone = predict(model, convert_to_double(store[torch.tensor([number])]))
        torch.testing.assert_close(alone[0], together[number], rtol=1e-12, atol=1e-12)


def test_parameter_counts_are_as_documented() -> None:
    eleven = {f"task{i}": 1 for i in range(11)}
    for kind, shared, head in ((MPNN, 616_960, 65), (SmallMPNN, 14_464, 17)):
        model = kind(eleven)
        heads = [p.numel() for h in model.get_task_heads().values() for p in h.parameters()]
        assert sum(heads) == 11 * head
        assert sum(p.numel() for p in model.parameters()) - sum(heads) == shared
        assert f"{shared:,} parameters" in (kind.__doc__ or "")


def test_heads_depend_on_features_only() -> None:
    model = SmallMPNN(TASKS)
    store = molecules([5, 2], seed=3)
    output = model(store[torch.arange(2)])
    assert output.features is not None
    (hidden,) = output.features
    for name, head in model.get_task_heads().items():
        assert torch.equal(head(hidden).squeeze(1), output.outputs[name])
    hidden.sum().backward()
    shared = {n: p for n, p in model.named_parameters() if not n.startswith("_heads")}
    assert all(p.grad is not None and p.grad.any() for p in shared.values())


@pytest.mark.slow
@torch.no_grad()
def test_forward_agrees_with_pytorch_geometric() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses deprecated functions
        pytest.importorskip("torch_geometric", reason="torch_geometric is not installed")
        from torch_geometric.nn import NNConv, Set2Set
    torch.manual_seed(0)
    model = MPNN(TASKS).double()
    edge = nn.Sequential(model.messages.edge_hidden, nn.ReLU(), model.messages.edge_matrix)
    conv = NNConv(64, 64, edge, aggr="mean").double()
    conv.load_state_dict(  # which also reinitializes the edge network, shared with ours
        conv.state_dict() | {"lin.weight": model.messages.root.weight, "bias": torch.ones(64)}
    )
    model.messages.root.bias.data.fill_(1.0)
    readout = Set2Set(64, processing_steps=3).double()
    cell = model.readout.lstm.state_dict()
    readout.lstm.load_state_dict({f"{name}_l0": value for name, value in cell.items()})
    batch = make_batch(molecules([9, 3, 1, 12], seed=4))
    state = model.embedding(batch.x).relu()
    for _ in range(3):
        state = model.update(conv(state, batch.edge_index, batch.edge_attr).relu(), state)
    last = model.last(readout(state, batch.molecule, dim_size=4)).relu()
    expected = torch.cat([head(last) for head in model.get_task_heads().values()], dim=1)
    torch.testing.assert_close(predict(model, batch), expected, rtol=1e-12, atol=1e-12)
