"""Small Dagster projects, written as text and looked at by the doctor."""

from pathlib import Path
from textwrap import dedent

from mlops_assets.doctor.examination import examine

HEALTHY = {
    "pyproject.toml": '[project]\nname = "small"\nversion = "1"\ndependencies = ["dagster==1.13.27"]\n',
    "uv.lock": "version = 1\n",
    "small/__init__.py": "import dagster as dg\n",
}


def write(root: Path, files: dict[str, str]) -> Path:
    for path, text in (HEALTHY | files).items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(dedent(text).lstrip("\n"), encoding="utf-8")
    return root


def found(root: Path, files: dict[str, str] | str) -> list[tuple[str, str]]:
    """The rule and the place of all that is found; one text is `small/assets.py`."""
    files = {"small/assets.py": files} if isinstance(files, str) else files
    write(root, files)
    examination = examine(root)
    assert examination.unread == []
    return sorted((each.rule.name, f"{each.found.path}:{each.found.line}") for each in examination.findings)


def marked(rule: str, files: dict[str, str] | str) -> list[tuple[str, str]]:
    """What should be found: `rule` on each line that ends with `# <-`."""
    files = {"small/assets.py": files} if isinstance(files, str) else files
    return sorted(
        (rule, f"{path}:{number}")
        for path, text in files.items()
        for number, line in enumerate(dedent(text).lstrip("\n").splitlines(), 1)
        if line.endswith("# <-")
    )
