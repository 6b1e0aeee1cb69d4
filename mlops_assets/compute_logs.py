"""What steps print, kept where everything else is kept: under `logs/` below MLOPS_HOME, in whichever store that is.

A pod's own output is gone with the pod. Dagster's managers for S3, GCS and Azure each bring their provider's client,
and the one for Azure cannot be installed beside MLflow; Arrow reaches the store already. In dagster.yaml:

    compute_logs: {module: mlops_assets.compute_logs, class: StoredComputeLogs, config: {root: {env: MLOPS_HOME}}}
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from dagster import Field, IntSource, StringSource
from dagster._core.storage.cloud_storage_compute_log_manager import (
    PollingComputeLogSubscriptionManager,
    TruncatingCloudStorageComputeLogManager,
)
from dagster._core.storage.compute_log_manager import CapturedLogSubscription, ComputeIOType
from dagster._core.storage.local_compute_log_manager import IO_TYPE_EXTENSION, LocalComputeLogManager
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from mlops_assets.resources.places import filesystem

FOLDER = "logs"


class StoredComputeLogs(TruncatingCloudStorageComputeLogManager, ConfigurableClass):
    """Captures output into files of this machine, and copies them into the store: every so often, and at the end."""

    def __init__(
        self, root: str, upload_interval: int | None = None, inst_data: ConfigurableClassData | None = None
    ) -> None:
        super().__init__()
        self.root = root.rstrip("/")
        self._upload_interval = upload_interval
        self._local: LocalComputeLogManager | None = None
        self._subscriptions = PollingComputeLogSubscriptionManager(self)
        self._inst_data = inst_data

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """The configuration that it was made from."""
        return self._inst_data

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """What `dagster.yaml` may say of it."""
        return {"root": StringSource, "upload_interval": Field(IntSource, is_required=False)}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> StoredComputeLogs:
        """What Dagster calls with the `config` of `dagster.yaml`."""
        return cls(inst_data=inst_data, **config_value)

    @property
    def local_manager(self) -> LocalComputeLogManager:
        """Who captures. Made when first needed: most processes that open an instance never print into it."""
        if self._local is None:
            self._local = LocalComputeLogManager(tempfile.mkdtemp(prefix="compute_logs_"))
        return self._local

    @property
    def upload_interval(self) -> int | None:
        """Every how many seconds what was printed so far is copied; without one a pod that is killed takes it along."""
        return self._upload_interval

    def delete_logs(self, log_key: Sequence[str] | None = None, prefix: Sequence[str] | None = None) -> None:
        """Delete the output of one step, or all below a prefix."""
        self.local_manager.delete_logs(log_key=log_key, prefix=prefix)
        if log_key:
            for kind in ComputeIOType:
                for partial in (False, True):
                    self._delete(self.display_path_for_type(log_key, kind, partial))
        elif prefix:
            system, path = filesystem("/".join((self.root, FOLDER, *prefix)))
            system.delete_dir_contents(path, missing_dir_ok=True)

    def download_url_for_type(self, log_key: Sequence[str], io_type: ComputeIOType) -> str | None:  # noqa: ARG002
        """None: a person has no rights on the store, the web server reads it."""
        return None

    def display_path_for_type(self, log_key: Sequence[str], io_type: ComputeIOType, partial: bool = False) -> str:
        """Where the output is kept."""
        name = Path(
            self.local_manager.get_captured_local_path(log_key, IO_TYPE_EXTENSION[io_type], partial=partial)
        ).name
        return "/".join((self.root, FOLDER, *log_key[:-1], name))

    def cloud_storage_has_logs(self, log_key: Sequence[str], io_type: ComputeIOType, partial: bool = False) -> bool:
        """Whether there is such output in the store."""
        from pyarrow.fs import FileType

        system, path = filesystem(self.display_path_for_type(log_key, io_type, partial))
        return system.get_file_info(path).type == FileType.File

    def download_from_cloud_storage(
        self, log_key: Sequence[str], io_type: ComputeIOType, partial: bool = False
    ) -> None:
        """Copy output from the store to where the web server reads it."""
        local = Path(self.local_manager.get_captured_local_path(log_key, IO_TYPE_EXTENSION[io_type], partial=partial))
        local.parent.mkdir(parents=True, exist_ok=True)
        system, path = filesystem(self.display_path_for_type(log_key, io_type, partial))
        with system.open_input_stream(path) as stored, local.open("wb") as copy:
            shutil.copyfileobj(stored, copy)

    def on_subscribe(self, subscription: CapturedLogSubscription) -> None:
        """Tell a reader what comes."""
        self._subscriptions.add_subscription(subscription)

    def on_unsubscribe(self, subscription: CapturedLogSubscription) -> None:
        """Tell a reader no more."""
        self._subscriptions.remove_subscription(subscription)

    def dispose(self) -> None:
        """Let go of readers and of the files of this machine."""
        self._subscriptions.dispose()
        if self._local is not None:
            self._local.dispose()
            shutil.rmtree(self._local._base_dir, ignore_errors=True)

    def _upload_file_obj(
        self, data: IO[bytes], log_key: Sequence[str], io_type: ComputeIOType, partial: bool = False
    ) -> None:
        target = self.display_path_for_type(log_key, io_type, partial)
        system, path = filesystem(target)
        if "://" not in target:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        with system.open_output_stream(path) as stored:
            shutil.copyfileobj(data, stored)

    def _delete(self, target: str) -> None:
        from pyarrow.fs import FileType

        system, path = filesystem(target)
        if system.get_file_info(path).type == FileType.File:
            system.delete_file(path)
