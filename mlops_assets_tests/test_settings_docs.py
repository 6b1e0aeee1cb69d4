"""docs/settings.md lists every field of a declaration and every environment variable, with its real default."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic_core import PydanticUndefined, to_jsonable_python

from mlops_assets import settings
from mlops_assets.ml.spec import ModelSpec, Value

DOCUMENT = Path(__file__).parents[1] / "docs" / "settings.md"
ROW = re.compile(r"^\| `(?P<name>[\w.]+)` \| (?P<default>[^|]*?) \| (?P<meaning>[^|]+?) \|$", re.MULTILINE)


def values(annotation: Any) -> Iterator[type[Value]]:
    """The declarations inside a field's type: of an optional, a tuple, a mapping or a union."""
    if isinstance(annotation, type) and issubclass(annotation, Value):
        yield annotation
    elif get_origin(annotation) in {Annotated, Union, UnionType, tuple, dict}:
        for argument in get_args(annotation):
            yield from values(argument)


def fields(model: type[Value], prefix: str = "", above: tuple[type[Value], ...] = ()) -> Iterator[tuple[str, str]]:
    """Every field by its dotted path, with its default as the document says it.

    A field that holds what another field of the declaration holds is one row: its own fields stand there.
    """
    told = list(above)
    for name, field in model.model_fields.items():
        inside = [value for value in values(field.annotation) if value not in told]
        for value in inside:
            yield from fields(value, f"{prefix}{name}.", tuple(told))
        told += inside
        if not inside:
            required = field.default is PydanticUndefined
            yield f"{prefix}{name}", "required" if required else f"`{json.dumps(to_jsonable_python(field.default))}`"


def documented() -> dict[str, str]:
    return {row["name"]: row["default"] for row in ROW.finditer(DOCUMENT.read_text())}


def test_every_field_of_a_declaration_stands_in_the_table_with_its_default():
    listed = {name: default for name, default in documented().items() if not name.isupper()}
    assert listed == dict(fields(ModelSpec))


def test_every_environment_variable_stands_in_the_table_with_its_default():
    listed = {name: default for name, default in documented().items() if name.isupper()}
    known = (*settings.ALL, *settings.LIBRARIES)
    assert listed == {setting.name: f"`{setting.default}`" if setting.default else "" for setting in known}
