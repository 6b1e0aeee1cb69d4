"""Records: the small values that assets hand to each other, as JSON that proves itself unchanged when read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TypeVar

import dagster as dg
from pydantic import ValidationError

from mlops_assets.ml.spec import PARTITION_KEY, Value, digest_of
from mlops_assets.resources.blobs import CorruptBytesError, write_atomically
from mlops_assets.resources.places import filesystem

Record = TypeVar("Record", bound=Value)
UNPARTITIONED = "latest"


class OutdatedRecordError(CorruptBytesError):
    """A record that is whole, and was written by a version of this package that knew other fields."""


class Records(dg.ConfigurableIOManager):
    """One JSON file an asset (and partition) under `root/records`, replaced atomically, verified when read.

    As an IO manager it stores what an asset returns (a Value, or a mapping of partition key to Value in a run over
    several partitions) and gives it to the assets downstream, by the type that their argument declares.
    """

    root: str

    def put(self, model: str, asset: str, value: Value, partition: str = UNPARTITIONED) -> None:
        """Make `value` the record of an asset (and partition)."""
        content = value.model_dump(mode="json")
        text = json.dumps({"sha256": digest_of(content), "value": content}, indent=1)
        write_atomically(self.root, _path(model, asset, partition), iter([text.encode()]))

    def get(self, kind: type[Record], model: str, asset: str, partition: str = UNPARTITIONED) -> Record | None:
        """The record of an asset (and partition), None where there is none.

        Raises CorruptBytesError when it was changed, and OutdatedRecordError when it is of another format.
        """
        system, base = filesystem(self.root)
        path = f"{base}/{_path(model, asset, partition)}"
        try:
            with system.open_input_file(path) as stream:
                text = stream.read()
        except FileNotFoundError:
            return None
        content = _verified(text, path)
        try:
            return kind.model_validate(content)
        except ValidationError as error:
            raise OutdatedRecordError(_outdated(model, asset, partition, error)) from error

    def remove(self, model: str, asset: str, partition: str) -> None:
        """Forget the record of an asset and partition, where there is one."""
        system, base = filesystem(self.root)
        with suppress(FileNotFoundError):
            system.delete_file(f"{base}/{_path(model, asset, partition)}")

    def all(self, kind: type[Record], model: str, asset: str, newest: int | None = None) -> dict[str, Record]:
        """Every partition's record of an asset (or the `newest` last), by partition key in ascending order."""
        keys = self.partitions(model, asset)
        return self.some(kind, model, asset, keys if newest is None else keys[-newest:])

    def some(self, kind: type[Record], model: str, asset: str, keys: Iterable[str]) -> dict[str, Record]:
        """The records of some partitions of an asset, without those that have none."""
        found = {key: self.get(kind, model, asset, key) for key in keys}
        return {key: record for key, record in found.items() if record is not None}

    def partitions(self, model: str, asset: str) -> list[str]:
        """The partition keys of an asset that have a record, in ascending order. Nothing is read for it."""
        from pyarrow import fs

        system, base = filesystem(self.root)
        folder = fs.FileSelector(f"{base}/records/{model}/{asset}", allow_not_found=True)
        return sorted(
            info.base_name.removesuffix(".json")
            for info in system.get_file_info(folder)
            if info.base_name.endswith(".json") and not info.base_name.startswith(".")
        )

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Store a Value, or a mapping of partition key to Value."""
        model, asset = context.asset_key.path
        values = obj if isinstance(obj, dict) else {_partition(context): obj}
        for partition, value in values.items():
            self.put(model, asset, value, partition)

    def load_input(self, context: dg.InputContext) -> Any:
        """The upstream record; in a run over several partitions a mapping of partition key to record."""
        model, asset = context.asset_key.path
        kind, several = _declared(context.dagster_type.typing_type)
        keys = list(context.asset_partition_keys) if context.has_asset_partitions else [UNPARTITIONED]
        found = {key: self.get(kind, model, asset, key) for key in keys}
        missing = [key for key, record in found.items() if record is None]
        if missing and not several:
            raise dg.Failure(
                f"{model}/{asset} has no record for {', '.join(missing)}: materialize it first.", allow_retries=False
            )
        present = {key: record for key, record in found.items() if record is not None}
        return present if several else present[keys[0]]


def _partition(context: dg.OutputContext) -> str:
    return context.asset_partition_key if context.has_asset_partitions else UNPARTITIONED


def _declared(annotation: Any) -> tuple[type[Value], bool]:
    arguments = getattr(annotation, "__args__", ())
    return (arguments[1], True) if arguments else (annotation, False)


def _path(model: str, asset: str, partition: str) -> str:
    if not PARTITION_KEY.fullmatch(partition):
        raise ValueError(f"{model}/{asset}: {partition!r} is not a partition key; allowed are {PARTITION_KEY.pattern}.")
    return f"records/{model}/{asset}/{partition}.json"


def _outdated(model: str, asset: str, partition: str, error: ValidationError) -> str:
    """What a record lacks or has too much, by field, and what to do about it. Values are not shown."""
    where = f"{model}/{asset}" if partition == UNPARTITIONED else f"{model}/{asset}[{partition}]"
    found = error.errors(include_url=False, include_context=False, include_input=False)
    missing = [".".join(map(str, each["loc"])) for each in found if each["type"] == "missing"]
    others = [
        ": ".join(filter(None, [".".join(map(str, each["loc"])), each["msg"].removeprefix("Value error, ")]))
        for each in found
        if each["type"] != "missing"
    ]
    faults = [f"it lacks {', '.join(missing)}"] * bool(missing) + others
    return (
        f"The record of {where} was written by another version of this package: {'; '.join(faults).rstrip('.')}. "
        f"Materialize {asset}{'' if partition == UNPARTITIONED else f' of {partition}'} again."
    )


def _verified(text: bytes, path: str) -> Any:
    try:
        stored = json.loads(text)
        content, expected = stored["value"], stored["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptBytesError(f"{path} is not a record any more: {error}.") from error
    if (found := digest_of(content)) != expected:
        raise CorruptBytesError(f"{path} was changed after it was written: SHA-256 {found}, expected {expected}.")
    return content
