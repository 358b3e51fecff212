"""Baselines: the metrics of single-task models, which delta-m compares with."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

from common.errors import UserError
from common.files import hash_text


@dataclass(frozen=True)
class Baseline:
    """The metrics of single-task models.

    As a file: JSON with the fields of this class.

    Args:
        name: The name that results carry.
        dataset: The benchmark.
        version: Raised whenever its values change.
        source: The origin of the values.
        metrics: Value by metric.
        batch_averaged: Whether the values are means over batches of the published code's size.
    """

    name: str
    dataset: str
    version: str
    source: str
    metrics: Mapping[str, float]
    batch_averaged: bool = False

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """Return the baseline of a file's text.

        Args:
            text: The text.
            where: The file or option, as error messages name it.

        Raises:
            UserError: If it is malformed.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise UserError(f"{where}: not a baseline file, which is JSON: {error}") from None
        known = {field.name for field in fields(cls)}
        required = known - {"batch_averaged"}
        if not isinstance(data, dict) or not required <= set(data) <= known:
            received = ", ".join(map(str, data)) if isinstance(data, dict) else repr(data)[:80]
            raise UserError(
                f"{where}: not a baseline file: received {received or 'nothing'}, expected the "
                f"keys {', '.join(sorted(required))}"
            )
        baseline = cls(**data)
        if not isinstance(baseline.metrics, dict):
            raise UserError(
                f"{where}: metrics: received {baseline.metrics!r}, expected numbers by name"
            )
        for name, value in baseline.metrics.items():
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or not math.isfinite(value):
                raise UserError(f"{where}: metrics.{name}: received {value!r}, expected a number")
            if value <= 0:  # a change relative to it would have no direction
                raise UserError(f"{where}: metrics.{name}: {value:g}, so delta-m is undefined")
        return baseline

    @property
    def digest(self) -> str:
        """A hash of the content, 8 hexadecimal digits."""
        return hash_text(json.dumps([sorted(self.metrics.items()), self.version]), digits=8)
