"""What Prometheus would read, for tests: samples by name and labels, parsed by its own client."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: str) -> Series:
    """Every sample of a page. Raises ValueError where the page is none, or names a series twice."""
    found: Series = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            named = sample.name, frozenset(sample.labels.items())
            if named in found:
                raise ValueError(f"{sample.name} {sample.labels} stands there twice")
            found[named] = sample.value
    return found


def value(series: Series, name: str, **labels: str) -> float | None:
    """One sample, None where there is none."""
    return series.get((name, frozenset(labels.items())))


def scraped(url: str) -> Series:
    """What a scrape of an exporter gives."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        return parsed(answer.read().decode())
