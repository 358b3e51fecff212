"""Training configs of reinforcement learning."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from common.hyperparameters import Hyperparameter
from datasets.training_config import TrainingConfig

# Fields of a supervised training config that reinforcement learning reads; others keep their
# defaults.
READ_FIELDS = frozenset(
    {"epochs", "lr", "batch_size", "clip_norm", "clip", "weighted_heads"}
    | {"times_losses", "patience"}
)


@dataclass(frozen=True)
class ReinforcementConfig(TrainingConfig):
    """How a benchmark of environments is trained by soft actor-critic.

    ``batch_size`` is transitions per task, ``epochs`` are evaluation intervals of ``epoch_steps``,
    and ``clip_norm`` clips actor and critics apart.

    Args:
        task: Of ``mt1``: the task, or several joined by ``+``; empty elsewhere.
        protocol: ``v3``, or ``system2`` for the experiment of FairGrad's paper: episodes of 150
            steps, one fixed goal per task, one temperature, and no task id among the networks'
            inputs. It sets ``horizon``, ``sharing`` and ``shared_temperature``. Published figures
            of it are on Meta-World v1, whose tasks differ: they do not compare with V3.
        reward: Version of the reward, ``v2`` or ``v1``.
        epoch_steps: Environment steps of each task in an epoch.
        start_steps: Steps of each task with random actions, before the first update.
        updates_per_step: Updates after each step of all environments.
        envs_per_worker: Simulators of a process. 0 spreads them over as many processes as the run
            has threads; with all in one, the run has no other process. Numbers do not depend on it.
        asynchronous: Whether the simulators take a step during updates, which then draw from a
            replay that lacks this step's transitions.
        horizon: Steps after which an episode is cut off in training; evaluation has those of the
            benchmark, or of the protocol.
        capacity: Transitions of each task that the replay keeps.
        keep_replay: Whether checkpoints hold the replay. Without it a resumed run repeats its
            epochs from the first.
        evaluation_goals: Goals of each task that an evaluation visits, once each.
        width: Width of the actor's hidden layers.
        critic_width: Width of the critics' hidden layers; 0 for the actor's.
        depth: Number of hidden layers.
        sharing: ``heads`` (task id, and an output layer per task), ``one_hot`` (task id), or
            ``all`` (neither).
        shared_temperature: Whether all tasks have one temperature.
        temperature_lr: Learning rate of the temperatures.
        initial_temperature: The temperatures at the start.
        discount: Factor of a later step's reward.
        tau: How far target critics follow the critics in an update.
    """

    task: str = ""
    protocol: str = "v3"
    reward: str = "v2"
    epoch_steps: int = 20_000
    start_steps: int = 4_000
    updates_per_step: int = 1
    envs_per_worker: int = 0
    asynchronous: bool = False
    horizon: int = 500
    capacity: int = 100_000
    keep_replay: bool = True
    evaluation_goals: int = 50
    width: int = 400
    critic_width: int = 0
    depth: int = 3
    sharing: str = "heads"
    shared_temperature: bool = False
    temperature_lr: float = 3e-4
    initial_temperature: float = 1.0
    discount: float = 0.99
    tau: float = 0.005

    def apply_protocol(self) -> "ReinforcementConfig":
        """Return the config with the values that its protocol sets."""
        if self.protocol == "v3":
            return self
        return replace(self, horizon=150, sharing="all", shared_temperature=True)


_SWITCH = Hyperparameter("choice", (False, True), False)
_COUNT = Hyperparameter("integer", (1, 1_000_000_000), 1)
_POSITIVE = Hyperparameter("uniform", (1e-12, 1e30), 1.0)
_SHARE = Hyperparameter("uniform", (0.0, 1.0), 0.0)

REINFORCEMENT_RULES: Mapping[str, Hyperparameter] = {
    "protocol": Hyperparameter("choice", ("v3", "system2"), "v3"),
    "reward": Hyperparameter("choice", ("v2", "v1"), "v2"),
    "epoch_steps": _COUNT,
    "start_steps": Hyperparameter("integer", (0, 1_000_000_000), 0),
    "updates_per_step": Hyperparameter("integer", (1, 1000), 1),
    "envs_per_worker": Hyperparameter("integer", (0, 50), 0),
    "asynchronous": _SWITCH,
    "horizon": Hyperparameter("integer", (1, 500), 1),
    "capacity": _COUNT,
    "keep_replay": _SWITCH,
    "evaluation_goals": Hyperparameter("integer", (1, 50), 1),
    "width": Hyperparameter("integer", (1, 100_000), 1),
    "critic_width": Hyperparameter("integer", (0, 100_000), 0),
    "depth": Hyperparameter("integer", (1, 100), 1),
    "sharing": Hyperparameter("choice", ("heads", "one_hot", "all"), "heads"),
    "shared_temperature": _SWITCH,
    "temperature_lr": Hyperparameter("uniform", (0.0, 1e30), 0.0),
    "initial_temperature": _POSITIVE,
    "discount": _SHARE,
    "tau": _SHARE,
}
REINFORCEMENT_FIELDS = ("task", *REINFORCEMENT_RULES)


def decode_training_config(data: Mapping[str, Any]) -> TrainingConfig:
    """Return the training config, of either kind, whose key has these values.

    Raises:
        TypeError: If a field is missing or unknown.
    """
    return ReinforcementConfig(**data) if "epoch_steps" in data else TrainingConfig(**data)


def find_unread_field(config: TrainingConfig, defaults: TrainingConfig) -> str | None:
    """Return a field of supervised training that a config changes in vain; None for none."""
    unread = (f.name for f in fields(TrainingConfig) if f.name not in READ_FIELDS)
    return next((n for n in unread if getattr(config, n) != getattr(defaults, n)), None)
