"""Rows of epochs as tests need them."""

from core.training.epoch_row import EpochRow


def make_row(
    epoch: int,
    eligible: bool = True,
    final: bool = False,
    seconds: float = 2.0,
    devices: float = 1.0,
    **validation: float | list[float | None] | None,
) -> EpochRow:
    """Return the row of an epoch of the first stage, with these validation metrics."""
    return EpochRow(
        epoch=epoch, stage=0, stage_epoch=epoch - 1, eligible=eligible, final=final, losses={},
        lr=0.1, steps=1, validation=validation, seconds=seconds,
        devices=devices,
    )  # fmt: skip
