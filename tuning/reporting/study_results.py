"""The results of a study as data frames."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from common.yaml_files import read_yaml_file


@dataclass(frozen=True)
class StudyResults:
    """The files that a study exported, one data set's.

    Each is read anew when asked for: a later study may have extended them.

    Args:
        folder: ``results/<data set>``.
        exit_code: 0; 1 where a method has no result or learned nothing; 130 after Ctrl-C.
    """

    folder: Path
    exit_code: int = 0

    @property
    def methods(self) -> list[str]:
        """The methods with exports, sorted."""
        return sorted(path.parent.name for path in self.folder.glob("*/trials.csv"))

    @property
    def table(self) -> pd.DataFrame:
        """The comparison of methods, a row each."""
        return pd.read_csv(self.folder / "table.csv")

    def read_trials(self, method: str) -> pd.DataFrame:
        """Return a row per configuration of a method's search."""
        return pd.read_csv(self.folder / method / "trials.csv")

    def read_seeds(self, method: str) -> pd.DataFrame:
        """Return a row per confirmation seed of a method's winner."""
        return pd.read_csv(self.folder / method / "seeds.csv")

    def read_curves(self, method: str) -> pd.DataFrame:
        """Return a row per epoch of all of a method's runs."""
        return pd.read_csv(self.folder / method / "curves.csv")

    def read_predictions(self, method: str, seed: int) -> pd.DataFrame:
        """Return a row per example, with the predictions of one confirmation seed."""
        return pd.read_parquet(self.folder / method / "predictions" / f"seed_{seed}.parquet")

    def read_best_config(self, method: str) -> Mapping[str, object]:
        """Return the winner of a method and how it was selected."""
        found: dict[str, object] = read_yaml_file(self.folder / method / "best_config.yaml")
        return found
