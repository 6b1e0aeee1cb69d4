"""The life of machine-learning models, as Dagster assets."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlops_assets.ml.approvals import Verdict
    from mlops_assets.ml.spec import ModelSpec
    from mlops_assets.simulation.delivery import World

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
MODELS = Path(__file__).parent / "defs" / "models"
COMPUTE_WIDTH = 150


@app.command()
def demo(
    data: Annotated[Path | None, typer.Option(help="Play the public data sets under this folder instead.")] = None,
    months: Annotated[int, typer.Option(min=1, help="How many months are played one by one.")] = 6,
) -> None:
    """Play months of the shipped models' lives through the real sensors and jobs, in this process."""
    from mlops_assets import settings
    from mlops_assets.demo.play import play_all
    from mlops_assets.demo.table import open_console, print_lines
    from mlops_assets.instance import prepare
    from mlops_assets.simulation.provider import OtherWorldError, Provider
    from mlops_assets.simulation.recorded import NoDataError

    try:
        worlds = _worlds(data)
        console = open_console()
        home = None if data is None or os.environ.get(settings.HOME.name) else f"{settings.home()}/real"
        console.print("Making the instance ready ...", style="dim")
        prepare(home)
        providers = [Provider(world, _landing(world)) for world in worlds]
        lines = play_all(console, providers, months)
    except (NoDataError, OtherWorldError) as error:
        _refuse(Console(), error)
    print_lines(console, lines, Path(settings.home()), simulated=data is None)
    if not lines or any(line.wrong for line in lines):
        raise typer.Exit(1)


@app.command()
def deliver(
    model: Annotated[str, typer.Argument(help="bike_demand or electricity_price")],
    count: Annotated[int, typer.Option(min=1, help="How many deliveries.")] = 1,
) -> None:
    """Drop the next simulated delivery into the landing folder, where the sensors find it."""
    from itertools import islice

    from mlops_assets.simulation.provider import OtherWorldError, Provider, simulated_worlds

    console = Console()
    worlds = {world.model: world for world in simulated_worlds()}
    if model not in worlds:
        _refuse(console, f"No world delivers {model!r}. There are: {', '.join(worlds)}.")
    provider = Provider(worlds[model], _landing(worlds[model]))
    try:
        sent = [path for start, attempt in islice(provider.coming(), count) for path in provider.send(start, attempt)]
    except OtherWorldError as error:
        _refuse(console, error)
    for path in sent:
        console.print(f"Delivered {path}", soft_wrap=True)
    if not sent:
        _refuse(console, f"The world of {model} has delivered everything that it has.")


@app.command()
def dev(port: Annotated[int, typer.Option(help="Where the Dagster UI listens.")] = 3000) -> None:
    """Open the Dagster UI and its daemon, MLflow, and the reports, on the instance under MLOPS_HOME."""
    from mlops_assets.development import serve
    from mlops_assets.lease import HeldError
    from mlops_assets.simulation.provider import simulated_worlds

    for world in simulated_worlds():
        _landing(world)
    try:
        raise typer.Exit(serve(port, Console()))
    except HeldError as error:
        _refuse(Console(stderr=True), error)


@app.command()
def webserver(
    host: Annotated[str, typer.Option("--host", "-h", help="The address that the proxy reaches, and nobody else.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", "-p", help="Where it listens.")] = 3000,
    workspace: Annotated[
        Path | None, typer.Option("--workspace", "-w", help="A workspace file that names the code servers.")
    ] = None,
) -> None:
    """Run Dagster's web server behind a proxy that logs people in, and sign what they approve there."""
    from mlops_assets import webserver as server
    from mlops_assets.resources.keys import KeyUnavailableError

    try:
        server.serve(host, port, workspace)
    except (KeyUnavailableError, server.NoProxyError) as error:
        _refuse(Console(stderr=True), error)


@app.command()
def daemon(
    workspace: Annotated[
        Path | None, typer.Option("--workspace", "-w", help="A workspace file that names the code servers.")
    ] = None,
) -> None:
    """Run Dagster's daemon, unless the instance has one: two would start runs twice."""
    from mlops_assets.daemon import run
    from mlops_assets.lease import HeldError

    try:
        run(workspace)
    except HeldError as error:
        _refuse(Console(stderr=True), error)


@app.command()
def watch() -> None:
    """Look after the daemon: raise an alert when it, its sensors or its clock fall silent."""
    from mlops_assets.daemon import look_after

    console = Console(stderr=True)
    look_after(lambda said: console.print(f"[red]{escape(said)}[/red]", soft_wrap=True))


@app.command()
def exporter(
    host: Annotated[str, typer.Option("--host", "-h", help="The address that Prometheus reaches.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", help="Where it listens.")] = 9464,
) -> None:
    """Tell Prometheus of runs, assets, checks, drift, decisions, champions, approvals, alerts and cost."""
    from mlops_assets.exporter import serving

    console = Console(stderr=True)
    try:
        serving.run(host, port, lambda said: console.print(said, soft_wrap=True, highlight=False))
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        _refuse(console, "The exporter needs prometheus-client: install mlops-assets with the extra `monitoring`.")


@app.command(name="supply-chain")
def supply_chain(
    advisories: Annotated[
        Path | None, typer.Option(help="Advisories to hold the lock against: a file or folder of OSV's JSON.")
    ] = None,
    lock: Annotated[Path | None, typer.Option(help="A hashed requirements file; the one of this package.")] = None,
) -> None:
    """Examine the lock: hashes, names, licences, known faults. Ends with 0: well, 1: faults, 2: not audited."""
    from mlops_assets import supply_chain as chain

    console = Console()
    try:
        known = None if advisories is None else chain.advisories(advisories)
        found = chain.audit((lock or chain.lock_here()).read_text(), chain.declared_here(), known)
    except (chain.SupplyChainError, OSError) as error:
        _refuse(Console(stderr=True), error)
    for fault in found.faults:
        console.print(f"[red]{escape(fault)}[/red]", soft_wrap=True)
    console.print(found.sentence, soft_wrap=True, highlight=False)
    raise typer.Exit(0 if found.is_proof else 1 if found.faults else 2)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="What the model is called: small letters, digits and _.")],
    sample: Annotated[Path, typer.Option("--from", help="A file like those that will be delivered.")],
    target: Annotated[str | None, typer.Option(help="The column to learn.")] = None,
    time: Annotated[
        list[str] | None, typer.Option(help="The column of a row's time; twice for date and clock.")
    ] = None,
    time_format: Annotated[str | None, typer.Option(help="How the time is written, such as '%d.%m.%Y %H:%M'.")] = None,
    timezone: Annotated[str, typer.Option(help="Where times without an offset were written.")] = "UTC",
    owner: Annotated[str, typer.Option(help="Whose model it is: team:NAME or an address.")] = "team:unassigned",
    task: Annotated[
        Literal["regression", "binary", "multiclass"] | None, typer.Option(help="Inferred when not given.")
    ] = None,
    into: Annotated[Path, typer.Option(help="The folder of models.")] = MODELS,
) -> None:
    """Write a working model from a sample file: its declaration and its contract, with what was inferred said aloud."""
    from pydantic import ValidationError

    from mlops_assets.scaffold.new import new_model
    from mlops_assets.scaffold.proposal import Wish
    from mlops_assets.scaffold.sample import ScaffoldError

    console = Console()
    if "site-packages" in into.parts:
        _refuse(console, f"--into: {into} belongs to an installed package. Name a folder of a package of your own.")

    def ask(question: str) -> str | None:
        return typer.prompt(question) if sys.stdin.isatty() else None

    try:
        wish = Wish(name, target or "", owner, task)
        folder, notes = new_model(sample, wish, into, ask, tuple(time or ()), time_format, timezone)
    except ScaffoldError as error:
        _refuse(console, error)
    except ValidationError as error:
        _refuse(console, "\n".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()))
    console.print(f"[bold]Wrote {escape(str(folder))}[/bold]. What was inferred, and is worth a look:", soft_wrap=True)
    for note in notes:
        console.print(f"  · {escape(note)}", soft_wrap=True)
    console.print("Next: mlops-assets check, then make dev. Its sensor finds the sample and starts the first run.")


@app.command()
def alerts(
    test: Annotated[bool, typer.Option("--test", help="Send a test message to every channel instead.")] = False,
    past: Annotated[bool, typer.Option("--past", help="Show what is over, too.")] = False,
    newest: Annotated[int, typer.Option(min=1, help="How many messages are shown.")] = 20,
) -> None:
    """List what a person has to look at, and how telling it went."""
    from itertools import chain

    from mlops_assets import settings
    from mlops_assets.bulletin import alert_lines, message_lines, try_channels
    from mlops_assets.resources.alerts import alerts_at as kept
    from mlops_assets.resources.channels import ChannelError

    console = Console()
    try:
        if test:
            if not try_channels(console):
                raise typer.Exit(1)
            return
        shelf = kept(settings.home())
        past_alerts = alert_lines("\nPast alerts", shelf.past()) if past else ()
        for line in chain(alert_lines("Open alerts", shelf.open()), past_alerts, message_lines(shelf.tellings(newest))):
            console.print(line, soft_wrap=True)
    except (ChannelError, settings.NoNumberError, settings.SecretInUriError) as error:
        _refuse(console, error)


@app.command()
def ledger(
    model: Annotated[str | None, typer.Argument(help="Show this model's entries only.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Say whether the ledger is as it was written, and nothing else.")
    ] = False,
) -> None:
    """Show what was done with the versions of models: who released what, when, why, and on what evidence."""
    from mlops_assets import chronicle

    console = Console()
    try:
        kept = chronicle.ledger_here()
        if broken := kept.verify():
            _refuse(console, f"The ledger is broken: {broken}")
        links = kept.links(model)
    except chronicle.REFUSALS as error:
        _refuse(console, error)
    if verify:
        console.print(f"The ledger is whole: {len(links)} entries{f' of {model}' if model else ''}.")
    elif links:
        console.print(chronicle.table(links))
    else:
        console.print(f"The ledger has no entry{f' of {model}' if model else ''}.")


@app.command()
def restore(
    model: Annotated[str, typer.Argument(help="A model whose alias champion somebody moved in MLflow.")],
    reason: Annotated[str, typer.Option(help="Why, for the ledger.")],
) -> None:
    """Put MLflow's alias champion back on the version that was released, and write down who did."""
    from mlops_assets import chronicle

    _tell(lambda: chronicle.restore(model, reason))


@app.command()
def rollback(
    model: Annotated[str, typer.Argument(help="A model whose champion is to go.")],
    reason: Annotated[str, typer.Option(help="Why, for the ledger.")],
    to: Annotated[int | None, typer.Option(help="An earlier champion; the one before this when not given.")] = None,
) -> None:
    """Make an earlier champion serve again, at once and without training, and write down who did."""
    from mlops_assets import chronicle

    _tell(lambda: chronicle.roll_back(model, to, reason))


@app.command()
def explain(
    prediction: Annotated[str, typer.Argument(help="Which one: <model>:<partition>:<row>@v<version>.")],
    without_data: Annotated[
        bool, typer.Option("--without-data", help="Name the raw bytes that it goes back to, and do not read them.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Prove where a prediction comes from, link by link. Ends with 0: it holds, 1: a link is broken, 2: none such."""
    from mlops_assets import explaining

    try:
        found = explaining.explain(prediction, with_data=not without_data)
    except explaining.REFUSALS as error:
        Console(stderr=True).print(f"[red]{escape(str(error))}[/red]", soft_wrap=True)
        raise typer.Exit(2) from error
    if as_json:
        typer.echo(found.model_dump_json(indent=1))
    else:
        console = Console()
        for line in explaining.lines(found):
            console.print(line, soft_wrap=True, highlight=False)
    raise typer.Exit(1 if found.broken else 0)


@app.command()
def waive(
    model: Annotated[str, typer.Argument(help="A declared model.")],
    gate: Annotated[str, typer.Argument(help="The gate that its candidate fails, as its check is called.")],
    reason: Annotated[str, typer.Option(help="Why, for the ledger.")],
    until: Annotated[str, typer.Option(help="The last day on which it holds (UTC), such as 2026-12-31.")],
    candidate: Annotated[
        str | None, typer.Option(help="Its SHA-256, or how that begins; the newest judged when not given.")
    ] = None,
    version: Annotated[int | None, typer.Option(help="The version that holds the candidate, instead.")] = None,
) -> None:
    """Let one gate of one candidate go until a day, and write down who did."""
    from mlops_assets import chronicle

    spec = _declared(Console(), model)
    _tell(lambda: chronicle.waive(spec, gate, reason, until, candidate, version))


@app.command()
def approve(
    model: Annotated[str, typer.Argument(help="A model with a version that waits for approval.")],
    version: Annotated[int, typer.Argument(help="The version.")],
    reason: Annotated[str, typer.Option(help="Why, for the ledger.")],
    sign: Annotated[
        bool, typer.Option("--sign", help="Print the signed answer for the UI, and write nothing.")
    ] = False,
) -> None:
    """Let a version serve, as far as it is for you to say. It is released when enough people have."""
    _answer(model, version, "approved", reason, sign)


@app.command()
def refuse(
    model: Annotated[str, typer.Argument(help="A model with a version that waits for approval.")],
    version: Annotated[int, typer.Argument(help="The version.")],
    reason: Annotated[str, typer.Option(help="Why, for the ledger.")],
    sign: Annotated[
        bool, typer.Option("--sign", help="Print the signed answer for the UI, and write nothing.")
    ] = False,
) -> None:
    """Keep a version from serving: what one approver refuses is not released."""
    _answer(model, version, "refused", reason, sign)


@app.command()
def vouch(
    model: Annotated[str, typer.Argument(help="A model with versions from before keys were configured.")],
    version: Annotated[int, typer.Argument(help="The version to vouch for.")],
) -> None:
    """Sign a version that was registered unsigned, with the key that MLOPS_SIGNING_KEY names, once it can serve."""
    from mlops_assets import chronicle

    _tell(lambda: chronicle.vouch(model, version))


@app.command()
def reproduce(
    model: Annotated[str, typer.Argument(help="A model with registered versions.")],
    version: Annotated[int, typer.Argument(help="The version.")],
    environment: Annotated[
        Literal["this", "fresh"],
        typer.Option(help="Build with what is installed here, or install the recorded lock first (needs an index)."),
    ] = "this",
    tolerance: Annotated[
        float, typer.Option(min=0, max=0.1, help="How far a metric may be off, as a share of itself.")
    ] = 1e-6,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Build a version anew from its manifest. Ends with 0: the same came out, 1: another, 2: there is none such."""
    from mlops_assets import reproducing
    from mlops_assets.components.declared import declared

    said = Console(stderr=True)
    spec = next((each for each in declared() if each.name == model), None)
    try:
        found = reproducing.reproduce(
            model,
            version,
            environment=environment,
            tolerance=tolerance,
            spec=spec,
            say=lambda text: said.print(f"[yellow]{escape(text)}[/yellow]", soft_wrap=True),
        )
    except reproducing.REFUSALS as error:
        said.print(f"[red]{escape(str(error))}[/red]", soft_wrap=True)
        raise typer.Exit(2) from error
    if as_json:
        typer.echo(found.model_dump_json(indent=1))
    else:
        console = Console()
        for line in reproducing.lines(found):
            console.print(line, soft_wrap=True, highlight=False)
    raise typer.Exit(0 if found.is_equal else 1)


@app.command()
def check() -> None:
    """Check every declared model against what it names: contract, columns, estimator, compute profiles."""
    from mlops_assets import computing
    from mlops_assets.components.declared import declared, faults, warnings

    console = Console()
    specs = declared()
    found = {spec.name: faults(spec) for spec in specs}
    for spec in specs:
        for text in warnings(spec):
            console.print(f"[yellow]{escape(spec.name)}[/yellow]: {escape(text)}", soft_wrap=True)
    for model, wrong in found.items():
        path = MODELS / model / "defs.yaml"
        for text in wrong:
            console.print(f"[red]{escape(str(path) if path.exists() else model)}[/red]: {escape(text)}", soft_wrap=True)
    misspelt = computing.misspelt_fields()
    for text in misspelt:
        console.print(f"[red]compute profiles[/red]: {escape(text)}", soft_wrap=True)
    bad = sum(1 for wrong in found.values() if wrong)
    console.print(f"{len(found)} models, {bad} with faults.")
    if bad or misspelt:
        raise typer.Exit(1)


compute = typer.Typer(
    no_args_is_help=True, help="Show compute profiles, and the Kubernetes Jobs that are made of them."
)
app.add_typer(compute, name="compute")
AtProvider = Annotated[
    str | None, typer.Option("--provider", help="generic, eks, gke or aks; COMPUTE_PROVIDER otherwise.")
]


@compute.command("list")
def list_profiles() -> None:
    """List every profile, as this deployment has it."""
    from mlops_assets import computing

    console = Console(width=max(Console().width, COMPUTE_WIDTH))
    try:
        console.print(computing.table())
    except computing.REFUSALS as error:
        _refuse(console, error)


@compute.command("show")
def show_profile(profile: Annotated[str, typer.Argument(help="A profile.")], provider: AtProvider = None) -> None:
    """Print the Job of a step with a profile, as dagster-k8s makes it, and the layer that each field comes from."""
    from mlops_assets import computing

    _print_lines(lambda: computing.shown(profile, provider), computing.REFUSALS)


@compute.command("explain")
def explain_step(
    asset: Annotated[str, typer.Argument(help="An asset, as <model>/<asset>.")], provider: AtProvider = None
) -> None:
    """Print the Job of the step that makes an asset, its profile and where that is declared."""
    from mlops_assets import computing
    from mlops_assets.components.declared import declared

    _print_lines(lambda: computing.explained(asset, declared(), provider), computing.REFUSALS)


@app.command()
def doctor(
    path: Annotated[Path, typer.Argument(help="The root of a Dagster project, this one or any other.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Read any Dagster project for the ten worst habits. Ends with 0: none, 1: some, 2: could not look."""
    from mlops_assets.doctor import report
    from mlops_assets.doctor.examination import NoProjectError, examine

    try:
        examination = examine(path)
    except NoProjectError as error:
        Console(stderr=True).print(f"[red]{escape(str(error))}[/red]", soft_wrap=True)
        raise typer.Exit(2) from error
    if as_json:
        typer.echo(report.as_json(examination))
    else:
        console = Console()
        for line in report.lines(examination):
            console.print(line, soft_wrap=True, highlight=False)
    raise typer.Exit(examination.exit_code)


@app.command()
def backtest(
    model: Annotated[str, typer.Argument(help="A declared model with validated partitions under MLOPS_HOME.")],
    policy: Annotated[
        list[str] | None, typer.Option(help="gain, never, always, every_n or on_drift, also with a window: always:6.")
    ] = None,
    change: Annotated[list[str] | None, typer.Option(help="A day on which the world is known to have changed.")] = None,
    fault: Annotated[
        list[str] | None, typer.Option(help="A day on which the feed is known to have been broken.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="A field declared otherwise, such as drift.threshold=0.3.")
    ] = None,
) -> None:
    """Live through a model's stored history again under several policies of retraining, and compare them."""
    from rich.progress import track

    from mlops_assets import backtesting

    console = Console()
    try:
        spec = backtesting.wished(_declared(console, model), setting or ())
        wishes = policy or backtesting.DEFAULT
        known = backtesting.moments(change or (), "--change"), backtesting.moments(fault or (), "--fault")
        for wish in wishes:
            backtesting.contestant(spec, wish)
        history, reports = backtesting.opened(spec)
        followed = track(wishes, "Living through it", console=console, transient=True)
        lived = [backtesting.live(history, spec, wish) for wish in followed]
        compared = backtesting.compared(spec, history, lived, *known)
    except backtesting.WishError as error:
        _refuse(console, error)
    console.print(backtesting.table(compared))
    for line in backtesting.told(compared, reports):
        console.print(escape(line), soft_wrap=True)


def _print_lines(lines: Callable[[], Iterable[str]], refusals: tuple[type[Exception], ...]) -> None:
    try:
        for line in lines():
            typer.echo(line)
    except refusals as error:
        _refuse(Console(stderr=True), error)


def _answer(model: str, version: int, kind: Verdict, reason: str, sign: bool) -> None:
    from mlops_assets import chronicle

    spec = _declared(Console(), model)
    if sign:
        _tell(lambda: chronicle.sign(spec, version, kind, reason), say=typer.echo)
    else:
        _tell(lambda: chronicle.answer(spec, version, kind, reason))


def _tell(act: Callable[[], str], say: Callable[[str], None] | None = None) -> None:
    """Do what belongs into the ledger and say what came of it, or why it is refused."""
    from mlops_assets import chronicle

    console = Console()
    try:
        said = act()
    except chronicle.REFUSALS as error:
        _refuse(console, error)
    if say:
        say(said)
    else:
        console.print(escape(said), soft_wrap=True)


def _declared(console: Console, model: str) -> ModelSpec:
    from mlops_assets.components.declared import declared

    found = {spec.name: spec for spec in declared()}
    if model not in found:
        _refuse(console, f"There is no model {model!r}. There are: {', '.join(found)}.")
    return found[model]


def _refuse(console: Console, reason: object) -> NoReturn:
    console.print(f"[red]{escape(str(reason))}[/red]", soft_wrap=True)
    raise typer.Exit(1)


def _landing(world: World) -> Path:
    """The landing folder of a shipped model, made where it is missing, and in it the one of labels that come later."""
    from mlops_assets import settings
    from mlops_assets.simulation.delivery import LABELS

    if "://" in settings.landing():
        _refuse(Console(), f"{settings.LANDING.name} is {settings.landing()}: worlds deliver into local folders only.")
    folder = Path(settings.landing()) / world.model
    (folder / LABELS if world.late else folder).mkdir(parents=True, exist_ok=True)
    return folder


def _worlds(data: Path | None) -> Sequence[World]:
    from mlops_assets.simulation.provider import simulated_worlds
    from mlops_assets.simulation.recorded import recorded_worlds

    return simulated_worlds() if data is None else recorded_worlds(data)


if __name__ == "__main__":
    app()
