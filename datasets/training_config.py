"""Training configs: how a benchmark is trained by default, and the rules for each field."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from common.hyperparameters import Hyperparameter, Scalar

JOINED_SPLIT = "train_and_validation"  # a value of ``training_split``


@dataclass(frozen=True)
class TrainingConfig:
    """How a benchmark is trained by default; every field can be set like a hyperparameter.

    Args:
        model: A name of :mod:`core.models`, a public name of a pretrained model, or its folder.
        epochs: Epochs of the stages whose length the method does not set.
        lr: Learning rate.
        weight_decay: Decay of weights; biases and norms are not decayed.
        batch_size: Examples per step. The last batch of an epoch has the rest; where that is one
            example, on which batch normalization cannot train, it joins the batch before.
        optimizer: ``sgd``, ``adam`` or ``adamw``.
        momentum: Momentum of SGD.
        schedule: A schedule of :func:`transformers.get_scheduler`, stepped per batch; ``step``
            (half the rate every 100 epochs) and ``plateau`` (0.7 of the rate after 5 epochs
            without a better selection value, not below 1e-5) are stepped per epoch.
        warmup: Share of a stage's steps in which the learning rate rises from 0.
        clip_norm: Largest norm of the gradient; 0 does not clip.
        clip: Whether ``all`` parameters are clipped together, or the ``shared`` ones only.
        gradients: How per-task gradients are computed (docs/weighting.md).
        weighted_heads: Whether gradient-based weightings weight the gradients of task heads too.
        times_losses: Whether the weighted gradients of gradient-based weightings are multiplied by
            the number of losses, before they are clipped, as published FairGrad, CAGrad and MGDA.
        warmup_steps: Steps in which the learning rate rises from 0; 0 for the share ``warmup``.
        epochs_cover: With ``stage``, ``epochs`` are those of each stage whose length the method
            does not set, and a schedule spans its stage. With ``run``, as in System 1's code, they
            are those of all stages, the pass in which JTT counts errors included, and each stage's
            schedule spans so many epochs of all training examples once.
        decay_target: Whether ``weights`` are decayed, or ``vectors`` (biases and norms), as System
            1's code does with AdamW.
        pad_to: Positions to which training texts are padded at least; 0 pads a batch to its longest
            text. Padding counts in ``l1`` only, whose mean is then over all positions.
        training_split: ``train``, or ``train_and_validation`` on data sets whose published protocol
            has no validation split.
        from_scratch: Whether a pretrained model has random weights in place of its own, drawn by
            the trial's seed.
        unscaled_targets: Whether the model learns targets in their own units, on data sets that
            scale them.
        augmentation: A name of :mod:`core.augmentations`, for training batches.
        microbatch: Examples per forward pass, where the recipe is exact when a batch is split; 0
            does not split.
        checkpointing: Whether to use activation checkpointing, which saves memory and costs time.
        compile: Whether :func:`torch.compile` compiles the model.
        patience: Eligible epochs without a better selection value after which a trial stops; 0
            trains all of them.
    """

    model: str
    epochs: int
    lr: float
    weight_decay: float
    batch_size: int
    optimizer: str = "sgd"
    momentum: float = 0.9
    schedule: str = "constant"
    warmup: float = 0.0
    clip_norm: float = 0.0
    clip: str = "all"
    gradients: str = "exact"
    weighted_heads: bool = False
    augmentation: str = "none"
    microbatch: int = 0
    checkpointing: bool = False
    compile: bool = False
    patience: int = 0
    times_losses: bool = False
    warmup_steps: int = 0
    epochs_cover: str = "stage"
    decay_target: str = "weights"
    pad_to: int = 0
    training_split: str = "train"
    from_scratch: bool = False
    unscaled_targets: bool = False

    def as_dict(self) -> dict[str, Scalar]:
        """Return the values by field."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def as_key(self) -> dict[str, Scalar]:
        """Return the values that a trial's key has: :data:`LATER_FIELDS` only where they differ."""
        return {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name not in LATER_FIELDS or getattr(self, f.name) != f.default
        }


# Fields that keys leave out at their defaults, which train what was trained before they existed.
LATER_FIELDS = frozenset(
    {
        "times_losses",
        "warmup_steps",
        "epochs_cover",
        "decay_target",
        "pad_to",
        "training_split",
        "from_scratch",
        "unscaled_targets",
        "envs_per_worker",
        "asynchronous",
    }
)


PER_EPOCH_SCHEDULES = ("step", "plateau")  # stepped after every epoch
POLYNOMIAL_END = 1e-7  # the rate at which transformers' ``polynomial`` ends
_SWITCH = Hyperparameter("choice", (False, True), False)

# The rules for a value of each field: its kind, and the lowest and highest value.
# The model and the augmentation are checked where their names are known, in core.
TRAINING_CONFIG_RULES: Mapping[str, Hyperparameter] = {
    "epochs": Hyperparameter("integer", (1, 1_000_000), 1),
    "lr": Hyperparameter("uniform", (0.0, 1e30), 0.0),
    "weight_decay": Hyperparameter("uniform", (0.0, 1e30), 0.0),
    "batch_size": Hyperparameter("integer", (1, 1_000_000), 1),
    "optimizer": Hyperparameter("choice", ("sgd", "adam", "adamw"), "sgd"),
    "momentum": Hyperparameter("uniform", (0.0, 1.0), 0.0),
    "schedule": Hyperparameter(
        "choice",
        (
            "constant",
            "linear",
            "cosine",
            "cosine_with_restarts",
            "polynomial",
            "step",
            "plateau",
        ),
        "constant",
    ),
    "warmup": Hyperparameter("uniform", (0.0, 1.0), 0.0),
    "clip_norm": Hyperparameter("uniform", (0.0, 1e30), 0.0),
    "clip": Hyperparameter("choice", ("all", "shared"), "all"),
    "gradients": Hyperparameter(
        "choice", ("exact", "matrix_free", "representation", "auto"), "exact"
    ),
    "weighted_heads": _SWITCH,
    "microbatch": Hyperparameter("integer", (0, 1_000_000), 0),
    "checkpointing": _SWITCH,
    "compile": _SWITCH,
    "patience": Hyperparameter("integer", (0, 1_000_000), 0),
    "times_losses": _SWITCH,
    "warmup_steps": Hyperparameter("integer", (0, 1_000_000_000), 0),
    "epochs_cover": Hyperparameter("choice", ("stage", "run"), "stage"),
    "decay_target": Hyperparameter("choice", ("weights", "vectors"), "weights"),
    "pad_to": Hyperparameter("integer", (0, 100_000), 0),
    "from_scratch": _SWITCH,
    "unscaled_targets": _SWITCH,
    "training_split": Hyperparameter("choice", ("train", JOINED_SPLIT), "train"),
}


def check_schedule(config: TrainingConfig) -> None:
    """Refuse a schedule that cannot have the warm-up or the rate of a training config.

    Raises:
        ValueError: If it cannot.
    """
    for name, value in (("warmup", config.warmup), ("warmup_steps", config.warmup_steps)):
        if value and config.schedule in PER_EPOCH_SCHEDULES:
            raise ValueError(
                f"{name}: received {value}, expected 0: schedule '{config.schedule}' does not "
                f"support warm-up; set {name}=0"
            )
    if config.warmup and config.warmup_steps:
        raise ValueError(
            f"warmup_steps: received {config.warmup_steps}, expected 0 beside "
            f"warmup={config.warmup}; set one of them to 0"
        )
    if config.schedule == "polynomial" and config.lr <= POLYNOMIAL_END:
        raise ValueError(
            f"lr: received {config.lr}, expected more than {POLYNOMIAL_END}, where schedule "
            "'polynomial' ends"
        )
