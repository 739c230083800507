"""The commands: their names, options and help. Each hands over to a module that does the work."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from labctl.cli.endings import EXIT_CODES, end_with
from labctl.cli.session import new_session, session
from labctl.cli.signals import orderly_stop

START, LOOK, BEFORE, AFTER, OWN = (
    "Start here",
    "What there is",
    "Before a run",
    "After a run",
    "Networks and data of your own",
)


class Commands(TyperGroup):
    """The group of all commands; the one place where a command's end is reported."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; any error becomes a report and an exit code."""
        current = new_session()
        current.as_json = "--json" in ctx.args
        try:
            with orderly_stop(current):
                return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader of a pipe went away; typer ends quietly
        except (Exception, KeyboardInterrupt) as error:
            if _ends_quietly(error):
                raise
            raise typer.Exit(end_with(error, current)) from error


def _ends_quietly(error: BaseException) -> bool:
    """Exit and help-instead-of-arguments; their home is typer or click, by version."""
    return isinstance(error, typer.Exit | typer.Abort) or type(error).__name__ == "NoArgsIsHelpError"


_CODES = " · ".join(f"[bold]{code}[/bold] {meaning}" for code, meaning in EXIT_CODES.items())

app = typer.Typer(
    name="labctl",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Run generative models on analog hardware, or on twins that stand in for it.\n\n"
    "A [bold]protocol[/bold] says what to sample; a [bold]rig[/bold] says on which devices. Each run writes "
    "one NeXus file.",
    epilog=f"Exit codes: {_CODES}",
)


class Records(TyperGroup):
    """`labctl calibrations [RIG]` lists: what is no command of the group goes to `list`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `list` in front where no command is named."""
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["list", *args]
        return super().parse_args(ctx, args)


calibrations_app = typer.Typer(
    cls=Records,
    help="List calibration records, and say how they stand: labctl calibrations [RIG].",
    epilog="[dim]Example:[/dim] labctl calibrations optical-unit",
)
twin_app = typer.Typer(help="Twins of benches: on wires, and their profiles.", no_args_is_help=True)
profile_app = typer.Typer(help="True parameters of simulated benches.", no_args_is_help=True)
data_app = typer.Typer(help="List public data sets, or bring one here.", no_args_is_help=True)

RigOption = Annotated[
    str | None,
    typer.Option("--rig", help="A shipped rig (labctl rigs) or a rig file; without it, optical-twin."),
]
OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the run file.")]
Protocol = Annotated[str, typer.Argument(metavar="PROTOCOL", help="A shipped recipe or a recipe file.")]
RecordsOption = Annotated[
    Path, typer.Option("--records", metavar="DIR", help="Folder of calibration records.")
]
CompensationOption = Annotated[
    bool, typer.Option(help="Work by the records of a bring-up, where there are any of this rig.")
]
OverrideOption = Annotated[
    list[str] | None,
    typer.Option(
        "--override",
        metavar="REASON",
        help="Let one software limit or interlock of the rig pass, or its records that are out of range, as "
        '"NAME: REASON"; the run file keeps it. Absolute limits let nothing pass. Repeatable.',
    ),
]
RunFile = Annotated[
    Path,
    typer.Argument(metavar="FILE", dir_okay=False, help="A run file, whole or still being written."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace one value of the recipe. Repeatable."),
]


def _print_version(asked: bool) -> None:
    if asked:
        from labctl import __version__

        print(f"labctl {__version__}")
        raise typer.Exit


@app.callback()
def top(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Options of every command."""
    session().debug = debug


@app.command(rich_help_panel=START)
def demo(out: OutOption = Path("runs")) -> None:
    """Watch a simulated optical computer generate pictures.

    Two-dimensional distributions, then garments: every step a fixed point settled in simulated light. Takes
    a minute or two; leaves one run file, pictures and a report.

    [dim]Example:[/dim] labctl demo
    """
    from labctl.cli.running import run_protocol

    run_protocol("demo", None, [], out, report=True)


@app.command(rich_help_panel=START)
def run(
    protocol: Protocol,
    rig: RigOption = None,
    settings: SetOption = None,
    out: OutOption = Path("runs"),
    report: Annotated[bool, typer.Option(help="Write pictures and an HTML page beside the file.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the file's path and nothing else.")] = False,
    records: RecordsOption = Path("calibrations"),
    compensation: CompensationOption = True,
    overrides: OverrideOption = None,
    on_drift: Annotated[
        str | None,
        typer.Option(
            "--on-drift",
            metavar="POLICY",
            help="Look for drift between batches and, where there is any: warn, refit-biases, recalibrate or "
            "stop. Without it, as the rig file's [watch] says.",
        ),
    ] = None,
) -> None:
    """Run a protocol on a rig and write one file; a ledger (ledger_compare) takes no rig.

    Ctrl-C is safe at any moment: the rig is left safe, the file whole and marked aborted.

    [dim]Example:[/dim] labctl run sample_moons --rig optical-twin --set steps=8 --set seed=3
    """
    from labctl.cli.running import run_protocol

    run_protocol(
        protocol, rig, settings or [], out, report=report, as_json=as_json, quiet=quiet,
        records=records, compensated=compensation, overrides=overrides or [], on_drift=on_drift,
    )  # fmt: skip


@app.command(rich_help_panel=LOOK)
def protocols() -> None:
    """List the shipped recipes.

    [dim]Example:[/dim] labctl protocols
    """
    from labctl.cli.listing import list_protocols

    list_protocols()


@app.command(rich_help_panel=LOOK)
def rigs() -> None:
    """List the shipped rigs.

    [dim]Example:[/dim] labctl rigs
    """
    from labctl.cli.listing import list_rigs

    list_rigs()


@app.command(rich_help_panel=BEFORE)
def validate(
    protocol: Protocol,
    rig: RigOption = None,
    settings: SetOption = None,
    records: RecordsOption = Path("calibrations"),
    compensation: CompensationOption = True,
) -> None:
    """Compile a run and print its plan; devices are shown nothing.

    Says whether the rig was brought up, and so whether the run would be compensated.

    [dim]Example:[/dim] labctl validate sample_moons --set steps=8
    """
    from labctl.cli.planning import validate_protocol

    validate_protocol(protocol, rig, settings or [], records=records, compensated=compensation)


@app.command(rich_help_panel=LOOK)
def discover(
    ask: Annotated[
        bool, typer.Option("--ask/--no-ask", help="Send anything; otherwise list what the system knows.")
    ] = True,
) -> None:
    """List what is attached, and what it answers.

    VISA resources with their *IDN?; serial ports, and whether an oscillator board speaks at their end (a
    free port is opened for that, which resets some boards; one in use is left alone and its holder named);
    displays by their EDID; GigE Vision cameras. What is not installed is named with what installs it.

    [dim]Example:[/dim] labctl discover --no-ask
    """
    from labctl.cli.discovering import list_attached

    list_attached(ask)


@app.command(rich_help_panel=BEFORE)
def check(
    rig: Annotated[str, typer.Argument(metavar="RIG", help="A shipped rig or a rig file.")],
    records: RecordsOption = Path("calibrations"),
) -> None:
    """Open every device of a rig and test it.

    Identity and health of each; then a frame is shown and read back, triggers are sent and counted at the
    camera, the light path is probed channel by channel, and the read noise measured. Says whether the rig
    was brought up. Exit code 3 where anything failed.

    [dim]Example:[/dim] labctl check optical-twin
    """
    from labctl.cli.checking import check_devices

    check_devices(rig, records)


@app.command(rich_help_panel=BEFORE)
def bringup(
    rig: Annotated[str, typer.Argument(metavar="RIG", help="A shipped rig or a rig file.")],
    records: RecordsOption = Path("calibrations"),
) -> None:
    """Measure a bench that nobody has measured, through its interfaces, and keep the records.

    Darks, linearity, emitters, where every cell lies, panel levels, the loop's own errors; known answers.
    Runs on this rig work by the newest records from then on.

    [dim]Example:[/dim] labctl bringup optical-unit
    """
    from labctl.cli.bringing_up import bring_up_rig

    bring_up_rig(rig, records)


@app.command(rich_help_panel=BEFORE)
def commission(
    rig: Annotated[str, typer.Argument(metavar="RIG", help="A shipped rig or a rig file.")],
    file: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The commissioned rig file; RIG-commissioned.toml here."),
    ] = None,
    records: RecordsOption = Path("calibrations"),
    operator: Annotated[str, typer.Option("--operator", metavar="WHO", help="Kept in every record.")] = "",
) -> None:
    """Find out how a bench is wired, calibrate it, and end with a golden sample; nobody is asked anything.

    Which drive channel lights which column of the panel, which read channel sees which row, polarities, how
    the panel is mounted, which channels are dead: written into a rig file that every other command takes.

    [dim]Example:[/dim] labctl commission wired.toml --out commissioned.toml
    """
    from labctl.cli.commissioning import Asked, commission_rig

    commission_rig(Asked(rig, file, records, operator))


@app.command(rich_help_panel=BEFORE)
def calibrate(
    rig: Annotated[str, typer.Argument(metavar="RIG", help="A shipped rig or a rig file.")],
    only: Annotated[
        str | None, typer.Option("--only", metavar="NAME", help="This procedure alone, if it is due.")
    ] = None,
    again: Annotated[
        str | None, typer.Option("--again", metavar="NAME", help="This procedure, due or not.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is due and how long it takes; measure nothing.")
    ] = False,
    records: RecordsOption = Path("calibrations"),
    raw: Annotated[
        str,
        typer.Option(
            "--raw",
            metavar="none|last|all",
            help="Whether to keep raw readings, where a procedure returns them. Those of older records stay "
            "until labctl calibrations gc removes them.",
        ),
    ] = "last",
    operator: Annotated[str, typer.Option("--operator", metavar="WHO", help="Kept in every record.")] = "",
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--override",
            metavar="REASON",
            help="Go on with a stale or not accepted record, or let a software limit or interlock of the rig "
            'pass, as "NAME: REASON"; records keep it. Absolute limits let nothing pass. Repeatable.',
        ),
    ] = None,
    forecast: Annotated[
        bool,
        typer.Option(
            "--forecast/--no-forecast",
            help="End with the quality to expect of sample_moons, whose network is adapted to the bench.",
        ),
    ] = True,
) -> None:
    """Measure what is missing or stale of a rig, in order, and say what it can do today.

    Each value stands with its uncertainty and its change since last time; a page with plots is written beside
    the records. What agrees with what it rests on is left alone. Ctrl-C keeps what was measured.

    [dim]Example:[/dim] labctl calibrate optical-unit
    """
    from labctl.cli.calibrating import Asked, calibrate_rig

    asked = Asked(rig, records, only, again, dry_run, operator, tuple(overrides or ()), raw, forecast)
    calibrate_rig(asked)


@app.command(rich_help_panel=BEFORE)
def morning(
    rig: Annotated[str, typer.Argument(metavar="RIG", help="A shipped rig or a rig file.")],
    records: RecordsOption = Path("calibrations"),
    operator: Annotated[str, typer.Option("--operator", metavar="WHO", help="Kept in the record.")] = "",
    again: Annotated[
        bool, typer.Option("--learn", help="Learn anew what is usual; today is what later days are like.")
    ] = False,
    run: Annotated[
        Path | None,
        typer.Option("--run", metavar="FILE", help="A run of this rig: what it saw counts in the diagnosis."),
    ] = None,
    overrides: OverrideOption = None,
) -> None:
    """Check a rig before the day's work: green, or what is wrong, what may be broken, and what to do.

    Dark, flat, golden vector, settle trace and golden sample against control charts that the records keep;
    the first check learns what is usual. Of an optical bench it names the likeliest of 30 physical faults.
    Takes seconds of device time. Exit code 3 where it is not green.

    [dim]Example:[/dim] labctl morning optical-unit
    """
    from labctl.cli.morning import Asked, check_rig_today

    check_rig_today(Asked(rig, records, operator, again, tuple(overrides or ()), run))


app.add_typer(calibrations_app, name="calibrations", rich_help_panel=LOOK)
OldRecord = Annotated[str, typer.Argument(metavar="OLD", help="A record's id, or its beginning.")]
NewRecord = Annotated[str, typer.Argument(metavar="NEW", help="Another of the same kind.")]
RigArgument = Annotated[str, typer.Argument(metavar="RIG", help="A shipped rig or a rig file.")]


@calibrations_app.command("list")
def calibrations_list(
    rig: Annotated[
        str | None, typer.Argument(metavar="[RIG]", help="Records of this rig's devices alone.")
    ] = None,
    records: RecordsOption = Path("calibrations"),
) -> None:
    """List records, oldest first: kind, device, age, validity, in use or stale and why.

    [dim]Example:[/dim] labctl calibrations list optical-unit
    """
    from labctl.cli.calibrations import list_records

    list_records(records, rig)


@calibrations_app.command("explain")
def calibrations_explain(rig: RigArgument, records: RecordsOption = Path("calibrations")) -> None:
    """Say how each record that a rig needs stands, and why.

    Opens the rig's devices, and measures nothing.

    [dim]Example:[/dim] labctl calibrations explain optical-unit
    """
    from labctl.cli.calibrations import explain_rig

    explain_rig(records, rig)


@calibrations_app.command("compare")
def calibrations_compare(
    old: OldRecord, new: NewRecord, records: RecordsOption = Path("calibrations")
) -> None:
    """Show two records side by side, changes in units of their combined uncertainty.

    [dim]Example:[/dim] labctl calibrations compare 3fa1 9c20
    """
    from labctl.cli.calibrations import compare_records

    compare_records(records, old, new)


@calibrations_app.command("gc")
def calibrations_gc(
    records: RecordsOption = Path("calibrations"),
    runs: Annotated[
        Path | None, typer.Option("--runs", metavar="DIR", help="Keep what the runs of a folder worked by.")
    ] = None,
    raw: Annotated[
        str, typer.Option("--raw", metavar="WHICH", help="Raw readings that stay: none, last or all.")
    ] = "last",
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; without this it is listed.")] = False,
) -> None:
    """List what is neither in use nor upstream of what is; remove it with --delete.

    [dim]Example:[/dim] labctl calibrations gc --runs runs
    """
    from labctl.cli.calibrations import collect_records

    collect_records(records, runs, raw, delete=delete)


@calibrations_app.command("export")
def calibrations_export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new zip file.")],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[RECORD]...", help="Ids; without them, all in use.")
    ] = None,
    records: RecordsOption = Path("calibrations"),
) -> None:
    """Write records, with all that they rest on, into one file.

    [dim]Example:[/dim] labctl calibrations export today.zip
    """
    from labctl.cli.calibrations import export_to

    export_to(records, file, names or [])


@calibrations_app.command("import")
def calibrations_import(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Of `labctl calibrations export`.")],
    rig: RigArgument,
    another: Annotated[
        bool, typer.Option("--another-rig", help="Let records of other devices in; the rig is not opened.")
    ] = False,
    records: RecordsOption = Path("calibrations"),
) -> None:
    """Bring records of a rig's devices here; every hash is checked first.

    [dim]Example:[/dim] labctl calibrations import today.zip optical-unit
    """
    from labctl.cli.calibrations import import_from

    import_from(records, file, rig, another=another)


@app.command(rich_help_panel=BEFORE)
def align(
    rig: Annotated[str, typer.Argument(metavar="RIG", help="A shipped rig or a rig file.")],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Of the page; 0: any free one.")] = 0,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for saved pictures.")] = Path(
        "alignment"
    ),
    browser: Annotated[bool, typer.Option(help="Open the page in your browser.")] = True,
) -> None:
    """Align a bench by eye: a live view of its camera, with jog keys.

    A page on this machine alone: the image with saturated pixels in red, grid and centroids over it, focus
    and the numbers to watch. Press q in the page, or Ctrl-C, to end; emitters are off then.

    [dim]Example:[/dim] labctl align optical-unit
    """
    from labctl.cli.aligning import align_rig

    align_rig(rig, out, port=port, browser=browser)


@app.command(rich_help_panel=AFTER)
def runs(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Where to look, folders below included.")
    ] = Path("runs"),
) -> None:
    """List the runs of a folder, whole or not.

    [dim]Example:[/dim] labctl runs runs
    """
    from labctl.cli.listing import list_run_files

    list_run_files(folder)


@app.command(rich_help_panel=AFTER)
def show(file: RunFile) -> None:
    """Print what a run file holds.

    Every step, what settled and what did not, the metrics. Works on a run that is still going.

    [dim]Example:[/dim] labctl show runs/sample_moons_20260101-120000.nxs
    """
    from labctl.cli.sheet import show_file

    show_file(file)


@app.command(rich_help_panel=AFTER)
def replay(
    file: RunFile,
    out: OutOption = Path("runs"),
    records: RecordsOption = Path("calibrations"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Make a run again from its file, and compare.

    Protocol, rig and seeds come from the file. On the same build the bits are the same; exit code 1 where
    they are not.

    [dim]Example:[/dim] labctl replay runs/sample_moons_20260101-120000.nxs
    """
    from labctl.cli.replaying import replay_file

    replay_file(file, out, records, as_json=as_json)


@app.command(rich_help_panel=AFTER)
def report(
    file: RunFile,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for page and pictures.")
    ] = None,
) -> None:
    """Write a page and pictures of a run.

    One self-contained HTML file, and its pictures as PNG beside it.

    [dim]Example:[/dim] labctl report runs/sample_moons_20260101-120000.nxs
    """
    from labctl.cli.sheet import report_file

    report_file(file, out)


@app.command(rich_help_panel=OWN)
def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A shipped training recipe or a TOML file.")
    ],
    settings: SetOption = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the checkpoints.")] = Path(
        "models"
    ),
) -> None:
    """Train a network that fits the machine.

    Trains in float, codes the weights, re-fits the rest with the codes frozen, and saves each with its card.

    [dim]Example:[/dim] labctl train moons --set train.iterations=4000 --out models
    """
    from labctl.cli.training import train_network

    train_network(recipe, settings or [], out)


twin_app.add_typer(profile_app, name="profile")
app.add_typer(twin_app, name="twin", rich_help_panel=OWN)


@twin_app.command("serve")
def twin_serve(
    rig: Annotated[str, typer.Argument(metavar="RIG", help="A shipped rig of twins, or a rig file.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The rig file to write; RIG-wired.toml.")
    ] = None,
    modulator: Annotated[
        str, typer.Option("--modulator", metavar="WIRE", help="The panel's wire: scpi, screen or dlpc900.")
    ] = "scpi",
) -> None:
    """Put a whole simulated bench on local wires, and write the rig file that uses it.

    The file points the real drivers at this process; every protocol runs through them, stepped, and comes out
    bit for bit as without wires. Ctrl-C ends it and leaves every device safe.

    [dim]Example:[/dim] labctl twin serve optical-twin --out wired.toml
    """
    from labctl.cli.serving import serve_twins

    serve_twins(rig, out, modulator)


@profile_app.command("import")
def twin_profile_import(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A published parameter file (YAML).")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="PROFILE", help="Name of the profile; FILE's name .toml.")
    ] = None,
) -> None:
    """Make a published machine's parameter file a profile, and a rig with that machine's twin.

    Reads the files of the 48- and of the 16-channel AOC. The rig file stands beside the profile.

    [dim]Example:[/dim] labctl twin profile import April2025_corrected_pd_3.yaml --out aoc48.toml
    """
    from labctl.cli.twins import import_published

    import_published(file, out)


app.add_typer(data_app, name="data", rich_help_panel=OWN)


@data_app.command("list")
def data_list() -> None:
    """List the data sets, and which are here.

    [dim]Example:[/dim] labctl data list
    """
    from labctl.cli.data import list_data

    list_data()


@data_app.command("fetch")
def data_fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Data sets of `labctl data list`.")],
    source: Annotated[
        Path | None, typer.Option("--from", metavar="DIR", help="Folder that holds the files already.")
    ] = None,
) -> None:
    """Bring data sets here, verified by sha256. What is here already is not fetched again.

    [dim]Example:[/dim] labctl data fetch fashion-mnist --from downloads
    """
    from labctl.cli.data import fetch_data

    fetch_data(names, source)


def main() -> None:
    """The entry point `labctl`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Greek letters gets "?", not an error
    app(prog_name="labctl", args=sys.argv[1:])
