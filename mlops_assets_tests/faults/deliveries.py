"""One delivery, stored and inspected, without Dagster: what most rows of the matrix do to the toy model."""

import hashlib
import io
from datetime import UTC, datetime

import pandas as pd

from mlops_assets.lifecycle.inspection import Inspection
from mlops_assets.ml.sources import DeliveredFile, Delivery
from mlops_assets.resources.blobs import Blobs
from mlops_assets.resources.records import Records
from mlops_assets.resources.tables import Tables

MODIFIED = datetime(2024, 2, 1, tzinfo=UTC)


def inspected(home, spec, files, partition="2024-01-01"):
    """The inspection of one partition's files, given by name as frames or as bytes."""
    blobs = Blobs(root=str(home))
    delivered = []
    for name, content in files.items():
        raw = content.to_csv(index=False).encode() if isinstance(content, pd.DataFrame) else content
        blobs.put(io.BytesIO(raw))
        sha256 = hashlib.sha256(raw).hexdigest()
        delivered.append(DeliveredFile(name=name, sha256=sha256, bytes=len(raw), modified=MODIFIED))
    inspection = Inspection.of(spec, blobs, Records(root=str(home)), Tables(root=str(home)), [partition])
    inspection.inspect(partition, Delivery(model=spec.name, partition=partition, files=tuple(delivered)))
    return inspection
