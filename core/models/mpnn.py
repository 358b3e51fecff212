"""A message passing network for molecules as complete graphs."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.batch import Output
from core.models.base import Model
from datasets.storage.molecules import ATOM_FEATURES, EDGE_FEATURES, MoleculeBatch

STEPS = 3  # of message passing, and of the readout


class MPNN(Model):
    """Messages from edge networks, a GRU per atom, Set2Set and a linear layer: 616,960 parameters.

    Gilmer et al., Neural Message Passing for Quantum Chemistry, ICML 2017, in the form of PyTorch
    Geometric's example, which Navon et al. (ICML 2022) and others train on QM9, with the same
    parameters. Each task adds a linear head of 65 parameters; with eleven tasks there are 617,675.

    Args:
        outputs: The tasks; each has one output.
        width: Width of the atoms' states.
        hidden: Width of the edge network's hidden layer.
    """

    def __init__(self, outputs: Mapping[str, int], width: int = 64, hidden: int = 128) -> None:
        super().__init__()
        self.embedding = nn.Linear(ATOM_FEATURES, width)
        self.messages = Messages(width, hidden)
        self.update = nn.GRUCell(width, width)
        self.readout = Set2Set(width)
        self.last = nn.Linear(2 * width, width)
        self._heads = nn.ModuleDict({task: nn.Linear(width, n) for task, n in outputs.items()})

    def forward(self, inputs: MoleculeBatch) -> Output:
        """Return predictions ``(b,)`` by task and the last layer, ``(b, width)``."""
        state = functional.relu(self.embedding(inputs.x))
        graph = self.messages.build_graph(inputs)
        for _ in range(STEPS):
            state = self.update(functional.relu(self.messages(state, graph)), state)
        hidden = functional.relu(self.last(self.readout(state, graph)))
        outputs = {task: head(hidden).squeeze(1) for task, head in self._heads.items()}
        return Output(outputs, hidden, (hidden,))

    def get_task_heads(self) -> Mapping[str, nn.Module]:
        """Return the linear heads by task."""
        return dict(self._heads.items())


class Graph(NamedTuple):
    """The parts of a batch that do not change between steps of message passing.

    Args:
        edges: The edge network's hidden layer and a 1, padded with 0, ``(b, n, hidden + 1, n)``:
            molecule, target atom, entry, source atom.
        molecule: Each atom's molecule, ``(atoms,)``.
        within: Each atom's index within its molecule, ``(atoms,)``.
        neighbors: The number of each atom's neighbors, at least 1, ``(atoms, 1)``.
    """

    edges: Tensor
    molecule: Tensor
    within: Tensor
    neighbors: Tensor

    def pad_atoms(self, state: Tensor) -> Tensor:
        """Pad the atoms' states ``(atoms, width)`` by molecule, ``(b, n, width)``."""
        padded = state.new_zeros((len(self.edges), self.edges.shape[1], state.shape[1]))
        padded[self.molecule, self.within] = state
        return padded


class Set2Set(nn.Module):
    """Pools a set of any size by attention, with queries from an LSTM over earlier readings.

    Vinyals, Bengio & Kudlur, Order Matters: Sequence to sequence for sets, ICLR 2016; with the
    parameters and results of PyTorch Geometric's, but without its scattered sums over atoms, whose
    order on a GPU is not deterministic.

    Args:
        width: Width of the elements.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTMCell(2 * width, width)

    def forward(self, state: Tensor, graph: Graph) -> Tensor:
        """Return the last query and reading of each molecule, ``(b, 2 width)``."""
        elements = graph.pad_atoms(state)
        present = graph.pad_atoms(torch.ones_like(state[:, :1])).squeeze(2) > 0
        query = memory = elements.new_zeros((len(elements), elements.shape[2]))
        read = query.repeat(1, 2)
        for _ in range(STEPS):
            query, memory = self.lstm(read, (query, memory))
            scores = (elements @ query.to(elements.dtype).unsqueeze(2)).squeeze(2)
            shares = scores.masked_fill(~present, -torch.inf).softmax(dim=1)
            mean = (shares.unsqueeze(1).to(elements.dtype) @ elements).squeeze(1)
            read = torch.cat([query, mean.to(query.dtype)], dim=1)
        return read


class Messages(nn.Module):
    r"""The mean over an atom's neighbors of ``x_j W(e_ij)``, plus ``x_i R + b``.

    ``W(e)`` is a matrix that a network with one hidden layer computes from the edge's features, as
    in PyTorch Geometric's ``NNConv``, which stores one matrix per edge. Since the last layer is
    linear, ``sum_j x_j W(e_ij) = sum_k (sum_j h_k(e_ij) x_j) W_k``, and one matrix product per atom
    is enough: the same result with a thirteenth of the operations for molecules of 18 atoms.

    Args:
        width: Width of the atoms' states.
        hidden: Width of the edge network's hidden layer.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.edge_hidden = nn.Linear(EDGE_FEATURES, hidden)
        self.edge_matrix = nn.Linear(hidden, width * width)
        self.root = nn.Linear(width, width)
        nn.init.zeros_(self.root.bias)

    def build_graph(self, inputs: MoleculeBatch) -> Graph:
        """Compute the parts of a batch that all steps of message passing share."""
        atoms = torch.arange(len(inputs.molecule), device=inputs.molecule.device)
        molecules = torch.arange(inputs.molecules, device=atoms.device)
        starts = torch.searchsorted(inputs.molecule, molecules)
        within = atoms - starts[inputs.molecule]
        sizes = torch.searchsorted(inputs.molecule, molecules, right=True) - starts
        neighbors = (sizes[inputs.molecule] - 1).clamp(min=1).unsqueeze(1)
        hidden = functional.relu(self.edge_hidden(inputs.edge_attr))
        hidden = functional.pad(hidden, (0, 1), value=1.0)  # the last layer's bias
        source, target = inputs.edge_index
        most = inputs.largest
        edges = hidden.new_zeros((inputs.molecules, most, hidden.shape[1], most))
        place = (inputs.molecule[target], within[target], slice(None), within[source])
        edges[place] = hidden
        return Graph(edges, inputs.molecule, within, neighbors)

    def forward(self, state: Tensor, graph: Graph) -> Tensor:
        """Return the messages ``(atoms, width)`` from the atoms' states ``(atoms, width)``."""
        count, most, hidden, _ = graph.edges.shape
        width = state.shape[1]
        products = graph.edges.view(count, most * hidden, most).to(state.dtype) @ graph.pad_atoms(
            state
        )
        products = products.view(count, most, hidden * width)[graph.molecule, graph.within]
        matrix = torch.cat([self.edge_matrix.weight.T, self.edge_matrix.bias.unsqueeze(0)])
        found = products @ matrix.view(hidden * width, width).to(state.dtype)
        messages: Tensor = found / graph.neighbors + self.root(state)
        return messages
