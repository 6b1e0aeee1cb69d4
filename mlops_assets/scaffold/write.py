"""The proposal as three files that a person would have written: the declaration, the contract, the package."""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from typing import Any

import yaml

from mlops_assets.scaffold.columns import ColumnGuess, attribute
from mlops_assets.scaffold.proposal import Proposal
from mlops_assets.scaffold.sample import ScaffoldError

LINE = 120
INFINITE = 1 << 30
RESERVED = {"yes", "no", "on", "off", "true", "false", "null", "y", "n"}
TYPE = "mlops_assets.components.SupervisedModel"
COMMENTS = {
    "source": "{variable} may name another folder or object store of such files.",
    "exclude": "Columns that the model must not learn from.",
    "calendar": "Columns that always differ from one window to the next: no drift.",
    "quality": "A delivery with more bad rows than this blocks everything after it.",
    "gates": "No better than a guess, or surely worse than the champion: never registered. docs/gates.md has more.",
}
CONTRACT = '''"""What a row of `{name}` must be, as one sample file showed it. Tighten what you know better."""

import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series


class {contract}(pa.DataFrameModel):
    """One row of a delivery."""

{fields}

    class Config:
        """Nothing that is not declared; text that holds a number is read as one."""

        strict = True
        coerce = True
'''


def contract_path(name: str, folder: Path) -> str:
    """Where the contract of a model in `folder` can be imported from."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name) or keyword.iskeyword(name):
        raise ScaffoldError(f"{name!r} cannot name a model: use small letters, digits and _, beginning with a letter.")
    parts = [name]
    while (folder / "__init__.py").exists():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join([*parts, "contract", _class_name(name)])


def write(proposal: Proposal, folder: Path) -> Path:
    """Write the model's folder within `folder` and return it. A folder that exists is left alone."""
    name = proposal.attributes["name"]
    target = folder / name
    if target.exists():
        raise ScaffoldError(f"{target} exists already: choose another name, or remove it first.")
    target.mkdir(parents=True)
    (target / "__init__.py").write_text(f'"""{proposal.attributes["description"]}"""\n', "utf-8")
    (target / "contract.py").write_text(contract_text(proposal), "utf-8")
    (target / "defs.yaml").write_text(declaration_text(proposal.attributes), "utf-8")
    return target


def declaration_text(attributes: dict[str, Any]) -> str:
    """The attributes as YAML, one field a line; what is empty is left out."""
    lines = [f"type: {TYPE}", "", "attributes:"]
    for name, value in attributes.items():
        if value in ([], {}):
            continue
        if name in COMMENTS:
            lines.append("  # " + COMMENTS[name].format(variable=f"{attributes['name'].upper()}_URI"))
        lines += _field(name, value)
    return "\n".join(lines) + "\n"


def contract_text(proposal: Proposal) -> str:
    """The contract's module."""
    taken: set[str] = set()
    time = ColumnGuess(
        proposal.attributes["time"]["name"],
        "pd.DatetimeTZDtype",
        {"dtype_kwargs": {"unit": "us", "tz": "UTC"}} | ({"unique": True} if proposal.unique_times else {}),
    )
    fields = [_contract_field(column, taken) for column in (time, *proposal.columns)]
    name = proposal.attributes["name"]
    return CONTRACT.format(name=name, contract=_class_name(name), fields="\n".join(fields))


def _field(name: str, value: Any) -> list[str]:
    """A scalar or list in one line; a mapping in one line where it is short, else a line for each of its fields."""
    flow = _flow(value)
    if not isinstance(value, dict) or len(flow) <= 90:
        return [f"  {name}: {flow}"]
    return [f"  {name}:", *(f"    {key}: {_flow(item)}" for key, item in value.items())]


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_./ -]*[A-Za-z0-9]", value):
        return value if value.lower() not in RESERVED else f'"{value}"'
    style = '"' if isinstance(value, str) else None
    return yaml.safe_dump([value], default_flow_style=True, default_style=style, allow_unicode=True, width=INFINITE)[
        1:-2
    ]


def _contract_field(column: ColumnGuess, taken: set[str]) -> str:
    name = attribute(column.name, taken)
    rules = ({"alias": column.name} if name != column.name else {}) | column.rules
    head = f"    {name}: Series[{column.annotation}] = pa.Field("
    one = f"{head}{', '.join(f'{rule}={_python(value)}' for rule, value in rules.items())})"
    if len(one) <= LINE:
        return one
    return "\n".join([head, *(_argument(rule, value) for rule, value in rules.items()), "    )"])


def _argument(rule: str, value: Any) -> str:
    one = f"        {rule}={_python(value)},"
    if len(one) <= LINE or not isinstance(value, list):
        return one
    return "\n".join([f"        {rule}=[", *(f"            {_python(item)}," for item in value), "        ],"])


def _python(value: Any) -> str:
    """The value as Python source in the house style."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_python(key)}: {_python(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_python, value))}]"
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: str) -> str:
    """A string literal: in double quotes, or in single ones where that saves backslashes."""
    quote = "'" if '"' in text and "'" not in text else '"'
    return quote + repr(text + "'" + '"')[1:-4].replace("\\'", "'").replace(quote, f"\\{quote}") + quote


def _class_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_")) + "Row"
