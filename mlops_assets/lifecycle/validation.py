"""`validated_features` and `quarantined_rows`: deliveries parted by the contract, and checks on what honours it."""

import itertools
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import dagster as dg

from mlops_assets.lifecycle.common import compute, describe, finish, key, materializations, partitions_definition
from mlops_assets.lifecycle.inspection import CHARTED, QUARANTINED, USUAL_ROW_COUNT, VALIDATED, Inspection
from mlops_assets.lifecycle.refusing import unrepeated
from mlops_assets.ml import charts
from mlops_assets.ml.code import code_version
from mlops_assets.ml.resemblance import Finding
from mlops_assets.ml.sources import Delivery
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.validation import BrokenRule, QuarantinedPartition, ValidatedPartition
from mlops_assets.resources.blobs import Blobs
from mlops_assets.resources.records import Records
from mlops_assets.resources.tables import Tables

SHOWN = 50
HONOURS = "honours_contract"
CHECKS = {
    HONOURS: "Every row kept honours the contract, and no larger a share than declared had to be quarantined.",
    "resembles_previous_partitions": "Each column is distributed much as it was in one of the previous partitions.",
    USUAL_ROW_COUNT: "There are about as many rows as in the previous partitions.",
    "is_fresh": "The newest row was not much older than usual when it was delivered.",
}
JUDGES = ("validation", "quarantine", "cells", "timestamps", "contracts", "reading", "unpacking")


def validation(spec: ModelSpec) -> dg.Definitions:
    """`quarantined_rows` and `validated_features`, made in one step, with the checks on what is kept."""

    @dg.multi_asset(
        name=f"{spec.name}__validation",
        outs={QUARANTINED: _asset(spec, QUARANTINED), VALIDATED: _asset(spec, VALIDATED)},
        check_specs=[
            dg.AssetCheckSpec(name, asset=key(spec, VALIDATED), description=text, blocking=name == HONOURS)
            for name, text in CHECKS.items()
        ],
        ins={"raw_data": dg.AssetIn(key(spec, "raw_data"))},
        partitions_def=partitions_definition(spec),
        backfill_policy=dg.BackfillPolicy.single_run(),
        **compute(spec, "validation"),
    )
    @unrepeated
    def parted(
        context: dg.AssetExecutionContext,
        raw_data: dict[str, Delivery],
        blobs: Blobs,
        records: dg.ResourceParam[Records],
        tables: Tables,
    ) -> Iterator[Any]:
        inspection = Inspection.of(spec, blobs, records, tables, context.partition_keys)
        for partition in context.partition_keys:
            inspection.inspect(partition, raw_data.get(partition))
        if inspection.refused:
            yield from _refusal(spec, inspection, records)
        yield from _results(context, spec, inspection)

    return dg.Definitions(assets=[parted])


def _asset(spec: ModelSpec, asset: str) -> dg.AssetOut:
    about = {
        VALIDATED: "The delivered rows that honour the contract, typed and in order of time.",
        QUARANTINED: "The delivered rows that break the contract, each with file, number and all broken rules.",
    }
    described = describe(spec, "validation", "pandera", "deltalake")
    return dg.AssetOut(description=about[asset], code_version=_code_version(spec), **described)


def _code_version(spec: ModelSpec) -> str:
    """A digest of everything that decides which rows are kept: contract, declaration, and the code that judges."""
    sources = [spec.contract.rpartition(".")[0], *(f"mlops_assets.ml.{name}" for name in JUDGES)]
    reading = spec.source.model_dump(mode="json", include={"format", "delimiter", "null_values"})
    declared = [spec.time.model_dump(mode="json"), spec.quality.max_bad_share, spec.partitions.every, reading]
    if spec.quality.row_count == "block":
        declared.append(spec.quality.row_count_ratio)
    return code_version(declared, sources)


def _results(context: dg.AssetExecutionContext, spec: ModelSpec, inspection: Inspection) -> Iterator[Any]:
    for asset, made in ((QUARANTINED, inspection.quarantined), (VALIDATED, inspection.validated)):
        checks = [_honours(inspection), *_comparisons(inspection)] if asset == VALIDATED else []
        metadata = {partition: _metadata(inspection, asset, partition) for partition in made}
        yield from finish(context, key(spec, asset), made, _versions(made), metadata, check_results=checks)


def _refusal(spec: ModelSpec, inspection: Inspection, records: Records) -> Iterator[Any]:
    """Keep what is good and what is quarantined, then fail by name for every refused partition."""
    for asset, made in ((QUARANTINED, inspection.quarantined), (VALIDATED, inspection.validated)):
        for partition, record in made.items():
            records.put(spec.name, asset, record, partition)
        metadata = {partition: _metadata(inspection, asset, partition) for partition in made}
        yield from materializations(key(spec, asset), _versions(made), metadata)
    yield _honours(inspection)
    if inspection.unusual:
        yield _comparison(spec, USUAL_ROW_COUNT, _found(inspection, USUAL_ROW_COUNT))
    refused, total = inspection.refused, len(inspection.refused) + len(inspection.validated)
    lines = [f"{spec.name}/{VALIDATED}[{partition}]: {reason}" for partition, reason in refused.items()]
    more = [f"... and {len(lines) - SHOWN} more."] if len(lines) > SHOWN else []
    raise dg.Failure(
        f"{len(refused)} of {total} partitions refused; their earlier versions stay, and nothing delivered is lost.\n"
        + "\n".join([*lines[:SHOWN], *more])
        + "\nHave a correction sent, or change the contract or the declared limits, and materialize them again.",
        metadata=_table("refused", _reasons(refused)),
        allow_retries=False,
    )


def _versions(made: Mapping[str, QuarantinedPartition | ValidatedPartition]) -> dict[str, str]:
    return {partition: record.content for partition, record in made.items()}


def _metadata(inspection: Inspection, asset: str, partition: str) -> dict[str, Any]:
    spec, quarantined = inspection.spec, inspection.quarantined[partition]
    record = quarantined if asset == QUARANTINED else inspection.validated[partition]
    entries: dict[str, Any] = {
        "rows_in": quarantined.rows_in,
        "rows_quarantined": quarantined.rows_quarantined,
        "bad_share": quarantined.rows_quarantined / quarantined.rows_in,
        **_table("broken_rules", map(_row, quarantined.broken_rules)),
        "delivery": quarantined.delivery,
        "table_version": record.table_version,
        "dagster/uri": inspection.tables.uri(spec.name, asset),
    }
    if asset == QUARANTINED:
        return {**entries, "dagster/row_count": quarantined.rows_quarantined}
    return {**entries, **_of_validated(inspection, inspection.validated[partition])}


def _of_validated(inspection: Inspection, record: ValidatedPartition) -> dict[str, Any]:
    return {
        "dagster/row_count": record.rows_out,
        "dagster/column_schema": _column_schema(inspection.contract),
        "first": record.first.isoformat(),
        "last": record.last.isoformat(),
        **{name: finding.sentence for name, finding in inspection.findings[record.partition].items()},
        **(_picture(inspection) if record.partition == list(inspection.validated)[-1] else {}),
    }


def _picture(inspection: Inspection) -> dict[str, dg.MetadataValue]:
    newest = sorted(inspection.history.values(), key=lambda each: each.first)[-CHARTED:]
    rows = charts.bars([each.partition for each in newest], [each.rows_out for each in newest], title="Rows validated")
    return {"rows_validated": dg.MetadataValue.md(charts.markdown(rows, "Rows in each of the newest partitions"))}


def _column_schema(contract: Any) -> Any:
    """The contract as Dagster shows it: each column with its type and rules."""
    from dagster_pandera import pandera_schema_to_dagster_type

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        return pandera_schema_to_dagster_type(contract).metadata["schema"]


def _honours(inspection: Inspection) -> dg.AssetCheckResult:
    """Passes when no partition was refused for what its rows hold; says in numbers what was quarantined anyway."""
    made = inspection.quarantined.values()
    broken = {each: reason for each, reason in inspection.refused.items() if each not in inspection.unusual}
    return dg.AssetCheckResult(
        asset_key=key(inspection.spec, VALIDATED),
        check_name=HONOURS,
        passed=not broken,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={
            "rows_in": sum(each.rows_in for each in made),
            "rows_quarantined": sum(each.rows_quarantined for each in made),
            "largest_bad_share": max((each.rows_quarantined / each.rows_in for each in made), default=0.0),
            "limit": inspection.spec.quality.max_bad_share,
            **_table("broken_rules", [_row(broken) for each in made for broken in each.broken_rules]),
            **_table("refused", _reasons(broken)),
        },
    )


def _comparisons(inspection: Inspection) -> Iterator[dg.AssetCheckResult]:
    """The checks that warn, each over all partitions of the run."""
    for name in CHECKS:
        if found := _found(inspection, name):
            yield _comparison(inspection.spec, name, found)


def _found(inspection: Inspection, check: str) -> dict[str, Finding]:
    return {partition: findings[check] for partition, findings in inspection.findings.items() if check in findings}


def _comparison(spec: ModelSpec, name: str, found: Mapping[str, Finding]) -> dg.AssetCheckResult:
    odd = [partition for partition, finding in found.items() if not finding.passed]
    shown = found[odd[0]] if odd else list(found.values())[-1]
    rows = [{"partition": each, "passed": finding.passed, "why": finding.sentence} for each, finding in found.items()]
    blocks = name == USUAL_ROW_COUNT and spec.quality.row_count == "block"
    return dg.AssetCheckResult(
        asset_key=key(spec, VALIDATED),
        check_name=name,
        passed=not odd,
        severity=dg.AssetCheckSeverity.ERROR if blocks else dg.AssetCheckSeverity.WARN,
        description=shown.sentence,
        metadata={**_table("partitions", rows), **shown.figures},
    )


def _row(broken: BrokenRule) -> dict[str, Any]:
    return {**broken.model_dump(exclude={"rows"}), "rows": ", ".join(map(str, broken.rows))}


def _reasons(refused: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"partition": partition, "reason": reason} for partition, reason in refused.items()]


def _table(name: str, rows: Iterable[Mapping[str, Any]]) -> dict[str, dg.MetadataValue]:
    """An entry that shows at most SHOWN rows as a table, or no entry: metadata is kept for ever, in every event."""
    shown = [dg.TableRecord(dict(row)) for row in itertools.islice(rows, SHOWN)]
    if not shown:
        return {}
    columns = [dg.TableColumn(column) for column in shown[0].data]
    return {name: dg.MetadataValue.table(shown, dg.TableSchema(columns=columns))}
