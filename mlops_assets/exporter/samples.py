"""Samples: the values of metrics, by their labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mlops_assets.exporter.families import Family

Labels = tuple[str, ...]


@dataclass
class Samples:
    """The values of some metrics. What is counted only grows; what is measured is put in the place of what was."""

    values: dict[Family, dict[Labels, float]] = field(default_factory=dict)

    def count(self, family: Family, labels: Labels, more: float = 1) -> None:
        """Add to a counter."""
        known = self.values.setdefault(family, {})
        known[labels] = known.get(labels, 0) + more

    def put(self, family: Family, labels: Labels, value: float) -> None:
        """Set a gauge."""
        self.values.setdefault(family, {})[labels] = value

    def clear(self, *families: Family) -> None:
        """Forget the series of some metrics, before those that there are now are put."""
        for family in families:
            self.values[family] = {}

    def series(self) -> Iterator[tuple[Family, Labels, float]]:
        """Every value."""
        for family, known in self.values.items():
            for labels, value in known.items():
                yield family, labels, value
