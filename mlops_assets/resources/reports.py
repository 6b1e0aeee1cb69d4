"""Reports: the HTML and JSON that people open, under `root/reports`, and where a browser finds them."""

from __future__ import annotations

from urllib.parse import quote

import dagster as dg

from mlops_assets.resources.blobs import write_atomically
from mlops_assets.resources.places import filesystem


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
        return self.url(path)

    def url(self, path: str) -> str:
        """Where a browser finds what is kept at `path`."""
        return f"{self.ui}/{quote(path)}"

    def read(self, path: str) -> str | None:
        """What was saved at `path`, None where nothing was."""
        system, base = filesystem(self.root)
        try:
            with system.open_input_file(f"{base}/reports/{path}") as stream:
                return stream.read().decode()
        except FileNotFoundError:
            return None
