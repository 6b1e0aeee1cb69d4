"""Dagster's PostgreSQL storage, which waits for a server that is away.

Dagster 1.13 asks six times within seconds and gives up: a run whose step ends while PostgreSQL is restarted is lost
with its process, and its work is done twice. Named in `dagster.yaml` (docs/deploy.md), in the place of Dagster's own.
"""

from __future__ import annotations

from dagster._core.storage.config import PostgresStorageConfig
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import create_pg_engine, get_token_provider_from_config, pg_url_from_config
from sqlalchemy.pool import NullPool

from mlops_assets.resources.postgresql import driven, waits


class PostgresStorage(DagsterPostgresStorage):
    """What `storage` in `dagster.yaml` names; its `config` is that of Dagster's own."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: PostgresStorageConfig
    ) -> PostgresStorage:
        """What Dagster calls with the `config` of `dagster.yaml`."""
        url = driven(pg_url_from_config(config_value)).render_as_string(hide_password=False)
        tokens = get_token_provider_from_config(config_value)
        waits(create_pg_engine(url, tokens, poolclass=NullPool)).connect().close()
        made = cls(
            postgres_url=url,
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            inst_data=inst_data,
            token_provider=tokens,
        )
        for storage in (made._run_storage, made._event_log_storage, made._schedule_storage):
            waits(storage._engine)
        return made
