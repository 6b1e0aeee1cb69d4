"""Reports: the HTML and JSON that people open, under `root/reports`, and where a browser finds them."""

from __future__ import annotations

from urllib.parse import quote

import dagster as dg

from mlops_assets.resources.blobs import write_atomically


class Reports(dg.ConfigurableResource):
    """Files under `root/reports`, seen by a browser under `ui`: never on Dagster's or MLflow's own origin."""

    root: str
    ui: str

    def save(self, path: str, text: str) -> str:
        """Write `text` to `path` (relative, as `<model>/<asset>/<name>.html`) and return its URL."""
        return self.keep(path, text.encode())

    def keep(self, path: str, content: bytes) -> str:
        """Write bytes, such as a picture, to `path` and return their URL."""
        write_atomically(self.root, f"reports/{path}", iter([content]))
        return f"{self.ui}/{quote(path)}"
