"""A page as a browser would see it: which tags are live, and what stands in table cells."""

from __future__ import annotations

from html.parser import HTMLParser


class Seen(HTMLParser):
    """The tags with their attributes and the text of table cells, those of framed pages included."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self._in_cell = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag in {"td", "th"}:
            self.cells.append("")
            self._in_cell = True
        if framed := attributes.get("srcdoc"):
            inner = Seen(framed)
            self.tags += inner.tags
            self.cells += inner.cells

    def handle_endtag(self, tag):
        if tag in {"td", "th"}:
            self._in_cell = False

    def handle_data(self, data):
        if self._in_cell:
            self.cells[-1] += data

    def live(self, marker: str) -> list[tuple[str, dict[str, str | None]]]:
        """The tags that carry `marker` in an attribute, framed pages aside: markup that came from data."""
        return [
            (tag, found)
            for tag, found in self.tags
            if any(marker in (value or "") for name, value in found.items() if name != "srcdoc")
        ]

    def formulas(self) -> list[str]:
        """The table cells that a spreadsheet would run."""
        return [cell for cell in self.cells if cell.startswith(("=", "+", "@", "\t", "\r")) or cell[:2] == "-c"]
