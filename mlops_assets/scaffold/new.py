"""A new model from a sample: read, ask for what is missing, infer, write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mlops_assets.scaffold.proposal import Wish, propose
from mlops_assets.scaffold.sample import ScaffoldError, read_sample
from mlops_assets.scaffold.times import find_time
from mlops_assets.scaffold.write import contract_path, write


def new_model(
    path: Path,
    wish: Wish,
    into: Path,
    ask: Callable[[str], str | None],
    time: tuple[str, ...] = (),
    time_format: str | None = None,
    timezone: str = "UTC",
) -> tuple[Path, list[str]]:
    """Write the folder of a model and return it, with what was inferred.

    `ask` puts a question to the user, and gives None where nobody can answer: then what is missing is refused.
    """
    contract = contract_path(wish.name, into)
    sample = read_sample(path)
    try:
        found = find_time(sample, time, time_format, timezone)
    except ScaffoldError as doubt:
        answer = None if time else ask(f"{doubt}\nTime column(s), parted by a comma")
        if not answer:
            raise
        found = find_time(sample, [name.strip() for name in answer.split(",")], time_format, timezone)
    if not wish.target:
        columns = ", ".join(name for name in sample.table.column_names if name not in found.time.columns)
        target = ask(f"Which column is to be learned? {columns}\nTarget")
        if not target:
            raise ScaffoldError(f"Say which column is to be learned: --target COLUMN. There are: {columns}.")
        wish = wish._replace(target=target)
    proposal = propose(sample, found, wish, contract)
    return write(proposal, into), proposal.notes
