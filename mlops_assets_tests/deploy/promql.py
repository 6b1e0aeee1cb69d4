"""Queries of Prometheus as far as a test has to understand them: which metrics and labels they name, and whether an
alert's simple comparison is true of given samples. No parser: brackets, names, selectors and comparisons."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

NAME = re.compile(r"\bmlops_[a-z0-9_]+\b")
SELECTOR = re.compile(r"(?P<name>mlops_[a-z0-9_]+)(?:\{(?P<labels>[^}]*)\})?(?:\[(?P<range>\d+[smhdw])\])?")
MATCHER = re.compile(r'(?P<label>[a-z_]+)\s*(?P<how>=~|!~|!=|=)\s*"(?P<value>[^"]*)"')
GROUPED = re.compile(r"\b(?:by|without)\s*\((?P<labels>[^)]*)\)")
FUNCTIONS = {"absent", "count", "increase", "label_values", "max", "rate", "sum", "time", "topk", "vector"}
CALL = re.compile(r"\b(?P<name>[a-z_]+)\s*\(")
COMPARISON = re.compile(
    r"^(?P<age>time\(\) - )?(?:max\()?(?P<selector>mlops_[a-z0-9_]+(?:\{[^}]*\})?)\)? (?P<how>==|>) (?P<limit>[\d.]+)$"
)
HOW: Mapping[str, Callable[[str, str], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "=~": lambda found, wanted: re.fullmatch(wanted, found) is not None,
    "!~": lambda found, wanted: re.fullmatch(wanted, found) is None,
}


class Named(NamedTuple):
    """A metric that a query names, with the labels that it asks for and whether over a range of time."""

    name: str
    labels: frozenset[str]
    over_time: bool


def balanced(query: str) -> bool:
    """Whether every bracket is closed, in order."""
    pairs, opened = {")": "(", "]": "[", "}": "{"}, []
    for character in re.sub(r'"[^"]*"', "", query):
        if character in "([{":
            opened.append(character)
        elif character in pairs and (not opened or opened.pop() != pairs[character]):
            return False
    return not opened


def named(query: str) -> list[Named]:
    """Every metric that a query names."""
    return [
        Named(
            found["name"],
            frozenset(match["label"] for match in MATCHER.finditer(found["labels"] or "")),
            found["range"] is not None,
        )
        for found in SELECTOR.finditer(query)
    ]


def grouped(query: str) -> set[str]:
    """The labels by which a query groups."""
    return {label.strip() for match in GROUPED.finditer(query) for label in match["labels"].split(",")}


def called(query: str) -> set[str]:
    """The functions that a query calls."""
    bare = re.sub(r'"[^"]*"', "", GROUPED.sub("", query))
    return {match["name"] for match in CALL.finditer(bare)}


def fires(query: str, samples: list[tuple[str, dict[str, str], float]], now: float) -> bool | None:
    """Whether a comparison is true of any sample; None where the query is more than a comparison."""
    found = COMPARISON.match(query)
    if found is None:
        return None
    selector = SELECTOR.match(found["selector"])
    matchers = list(MATCHER.finditer(selector["labels"] or ""))
    compare = operator.eq if found["how"] == "==" else operator.gt
    values = [
        now - value if found["age"] else value
        for name, labels, value in samples
        if name == selector["name"]
        and all(HOW[each["how"]](labels.get(each["label"], ""), each["value"]) for each in matchers)
    ]
    return any(compare(value, float(found["limit"])) for value in values)
