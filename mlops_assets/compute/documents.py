"""YAML files as one document: each later file over the ones before it, field by field, and the line of every field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import yaml

Where = tuple[str | int, ...]


class DocumentError(ValueError):
    """A file that cannot be read, or says what cannot be."""


@dataclass(frozen=True)
class Document:
    """What the files say together, and in which file and line each field stands."""

    data: Any
    places: Mapping[Where, str] = field(default_factory=dict)

    def under(self, over: Document) -> Document:
        """This document with another over it: fields are merged, all else is replaced, and null takes a field away."""
        places = dict(self.places)
        return Document(_over(self.data, over.data, (), over.places, places), places)

    def place(self, where: Iterable[str | int]) -> str:
        """The file and line of a field, or of the nearest around it that a file names."""
        steps = tuple(where)
        found = next((self.places[steps[:end]] for end in range(len(steps), -1, -1) if steps[:end] in self.places), "")
        return f"{found}: " if found else ""

    def refuse(self, faults: Iterable[tuple[Where, str]]) -> DocumentError:
        """The error that tells all of these faults, each with its place."""
        told = dict.fromkeys(f"{self.place(where)}{'.'.join(map(str, where))}: {reason}" for where, reason in faults)
        return DocumentError("\n".join(told))


def read(path: Path) -> Document:
    """One file."""
    import yaml

    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        root = loader.get_single_node()
        places: dict[Where, str] = {(): f"{path}:1"}
        return Document(_value(loader, root, (), path, places) if root else {}, places)
    except OSError as error:
        raise DocumentError(f"{path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise DocumentError(f"{place}: is not YAML: {getattr(error, 'problem', error)}.") from error


def _value(loader: yaml.SafeLoader, node: yaml.Node, at: Where, path: Path, places: dict[Where, str]) -> Any:
    import yaml

    places.setdefault(at, f"{path}:{node.start_mark.line + 1}")
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, each, (*at, number), path, places) for number, each in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return loader.construct_object(node)
    found: dict[str, Any] = {}
    for key, value in node.value:
        name, line = str(loader.construct_object(key)), key.start_mark.line + 1
        if name in found:
            raise DocumentError(f"{path}:{line}: {'.'.join(map(str, (*at, name)))}: stands there twice.")
        places[(*at, name)] = f"{path}:{line}"
        found[name] = _value(loader, value, (*at, name), path, places)
    return found


def _over(under: Any, over: Any, at: Where, new: Mapping[Where, str], places: dict[Where, str]) -> Any:
    if not (isinstance(under, dict) and isinstance(over, dict)):
        places.update({where: place for where, place in new.items() if where[: len(at)] == at and at})
        return over
    merged = dict(under)
    for key, value in over.items():
        if (*at, key) in new:
            places[(*at, key)] = new[(*at, key)]
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _over(merged.get(key), value, (*at, key), new, places)
    return merged
