"""An examination as a person reads it in a terminal, and as a program reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby

from rich.markup import escape

from mlops_assets.doctor.examination import Examination
from mlops_assets.doctor.findings import Finding
from mlops_assets.doctor.rules import RULES


def lines(examination: Examination) -> Iterator[str]:
    """What was found, habit by habit; then what was accepted, what could not be read, and how much there is of each."""
    for rule, found in groupby(examination.findings, key=lambda finding: finding.rule):
        yield f"\n[bold red]{escape(rule.title)}[/bold red] [dim]({rule.name})[/dim]"
        yield f"  [dim]Why:[/dim] {escape(rule.why)}"
        for finding in found:
            yield from _finding(finding)
    if examination.accepted:
        yield f"\n[bold]Accepted, with a reason: {len(examination.accepted)}[/bold]"
        for finding in examination.accepted:
            what = f"{escape(finding.found.what)} [dim]({finding.rule.name})[/dim]"
            yield f"  {_place(finding)}: {what}: {escape(finding.reason or '')}"
    if examination.idle:
        yield f"\n[bold]Comments that accept nothing that was found: {len(examination.idle)}[/bold]"
        yield from (f"  {escape(each.path)}:{each.line}: {escape(each.rule)}" for each in examination.idle)
    if examination.unread:
        yield f"\n[bold yellow]Could not be looked at: {len(examination.unread)}[/bold yellow]"
        yield from (f"  {escape(each.path)}: {escape(each.reason)}" for each in examination.unread)
    yield "\n" + _summary(examination)


def as_json(examination: Examination) -> str:
    """The same, for a program."""
    return json.dumps(
        {
            "looked_at": examination.looked_at,
            "findings": [_record(finding) for finding in examination.findings],
            "accepted": [_record(finding) | {"reason": finding.reason} for finding in examination.accepted],
            "accepting_nothing": [
                {"path": each.path, "line": each.line, "rule": each.rule} for each in examination.idle
            ],
            "unread": [{"path": each.path, "reason": each.reason} for each in examination.unread],
        },
        indent=2,
        ensure_ascii=False,
    )


def _finding(finding: Finding) -> Iterator[str]:
    yield f"  [bold]{_place(finding)}[/bold]: {escape(finding.found.what)}."
    yield f"    [green]Mend:[/green] {escape(finding.found.mend)}"
    if finding.note:
        yield f"    [yellow]{escape(finding.note)}[/yellow]"


def _place(finding: Finding) -> str:
    return escape(f"{finding.found.path}:{finding.found.line}")


def _summary(examination: Examination) -> str:
    habits = len({finding.rule.name for finding in examination.findings})
    number = len(examination.findings)
    found = f"{number} finding{'s'[: number > 1]} in {habits} of {len(RULES)} habits" if number else "No finding"
    looked = f"{examination.looked_at} files looked at, {len(examination.unread)} not"
    return f"{found}; {len(examination.accepted)} accepted; {looked}."


def _record(finding: Finding) -> dict[str, object]:
    return {
        "rule": finding.rule.name,
        "path": finding.found.path,
        "line": finding.found.line,
        "what": finding.found.what,
        "why": finding.rule.why,
        "mend": finding.found.mend,
        **({"note": finding.note} if finding.note else {}),
    }
