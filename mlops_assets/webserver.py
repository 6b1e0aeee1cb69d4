"""`mlops-assets webserver`: Dagster's web server behind a proxy that logs people in.

Dagster's own has no login: whoever reaches it types any tag and any field. This one takes the person from a header that
the proxy sets, writes it on each run that it launches, and signs what that person approves or refuses with a key of its
own, bound to the question and to the run. A tag that somebody forges elsewhere has no such signature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mlops_assets import settings
from mlops_assets.daemon import write_workspace
from mlops_assets.instance import prepare
from mlops_assets.lifecycle.answering import JOBS, op_of
from mlops_assets.lifecycle.approving import STAMP, STARTED_BY
from mlops_assets.ml.approvals import answer, newest_question
from mlops_assets.ml.signed import signed_by
from mlops_assets.ml.signing import SigningKey
from mlops_assets.ml.spec import Person
from mlops_assets.resources.keys import keys_here
from mlops_assets.resources.ledger import Ledger, LedgerUnavailableError

PERSON = TypeAdapter(Person)
RESERVED = {STARTED_BY, STAMP}


class NoProxyError(Exception):
    """What the web server needs to know a person by is not configured."""


def serve(host: str, port: int, workspace: Path | None = None) -> None:
    """Serve until stopped. Raises NoProxyError where no header or no key is configured."""
    signer, header = keys_here().signer(), settings.PROXY_HEADER.value()
    if signer is None or not header:
        raise NoProxyError(
            f"Set {settings.PROXY_HEADER.name} to the header in which the proxy says who is logged in, and "
            f"{settings.SIGNING_KEY.name} to a key of this server. docs/approvals.md says how."
        )
    home = prepare()
    import dagster as dg
    import uvicorn
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget

    stamp = Stamp(header, signer, Ledger(uri=settings.ledger(), anchors=settings.ledger_anchors()))
    target = WorkspaceFileTarget([str(workspace or write_workspace(home))])
    with dg.DagsterInstance.get() as instance, WorkspaceProcessContext(instance, target, dg.__version__) as process:
        uvicorn.run(app(process, stamp), host=host, port=port, log_level="warning")


def app(process: Any, stamp: Stamp) -> Any:
    """Dagster's web application, in which every mutation goes through `stamp`."""
    from dagster_webserver.webserver import DagsterWebserver

    class BehindProxy(DagsterWebserver):
        def build_graphql_middleware(self) -> list:
            return [stamp]

    return BehindProxy(process).create_asgi_app()


class Stamp:
    """What stands on each run that is launched: who launched it, and, where that is an answer, a signature of it.

    GraphQL calls `resolve` with each field; all but mutations go on as they came.
    """

    def __init__(self, header: str, signer: SigningKey, ledger: Ledger) -> None:
        """The header that names the person, the server's key, and where the questions are."""
        self.header, self.signer, self.ledger = header, signer, ledger

    def resolve(self, go_on: Callable[..., Any], root: Any, info: Any, **arguments: Any) -> Any:
        """Write on what is to be launched, then launch it."""
        if info.parent_type.name == "Mutation":
            person = self.person(info.context.source)
            for launch in _launches(arguments):
                self._write(launch, person)
            for name, field in (("reexecutionParams", "extraTags"), ("backfillParams", "tags")):
                if name in arguments:
                    _replace(arguments[name], field, {STARTED_BY: person} if person else {})
        return go_on(root, info, **arguments)

    def person(self, connection: Any) -> str | None:
        """Who the proxy says is logged in. Only a POST counts: a page elsewhere can make a browser open any address."""
        if connection.scope["type"] != "http" or connection.scope["method"] != "POST":
            return None
        named = connection.headers.getlist(self.header)
        try:
            return PERSON.validate_python(named[0]) if len(named) == 1 else None
        except ValidationError:
            return None

    def _write(self, launch: dict[str, Any], person: str | None) -> None:
        from dagster._core.utils import make_new_run_id

        about = launch["executionMetadata"] = {**(launch.get("executionMetadata") or {}), "runId": make_new_run_id()}
        signature = self._signature(launch, person, about["runId"]) if person else None
        tags = {STARTED_BY: person, STAMP: signature}
        _replace(about, "tags", {name: value for name, value in tags.items() if value})

    def _signature(self, launch: Mapping[str, Any], person: str, run: str) -> str | None:
        """The signature of an answer that this run is to write down; None where it is none that can be given."""
        selector = launch.get("selector") or {}
        job = selector.get("jobName") or selector.get("pipelineName")
        if job not in JOBS:
            return None
        try:
            said = _config(launch)["ops"][op_of(job)]["config"]
            question = newest_question(self.ledger.links(said["model"]), said["model"])
            if question is None:
                return None
            entry = answer(question, JOBS[job], person, said["reason"], datetime.now(UTC), via="proxy", run=run)
        except (KeyError, TypeError, ValueError, LedgerUnavailableError):
            return None
        signed = signed_by(self.signer, entry)
        return f"{signed.key} {signed.signature}"


def _launches(arguments: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What a mutation launches."""
    if arguments.get("executionParams"):
        yield arguments["executionParams"]
    yield from arguments.get("executionParamsList") or ()


def _replace(holder: dict[str, Any], field: str, tags: Mapping[str, str]) -> None:
    """Put tags in the place of what somebody wrote under our names."""
    kept = [tag for tag in holder.get(field) or [] if tag["key"] not in RESERVED]
    holder[field] = kept + [{"key": name, "value": value} for name, value in tags.items()]


def _config(launch: Mapping[str, Any]) -> Any:
    """The run's configuration, which the UI sends as text."""
    import yaml

    written = launch.get("runConfigData") or {}
    return yaml.safe_load(written) if isinstance(written, str) else written
