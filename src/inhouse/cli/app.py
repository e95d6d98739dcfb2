"""The `inhouse` command: its verbs, and what an error looks like. Heavy imports stand in the verb that needs them."""

import io
import sys
from typing import Annotated

import typer

from inhouse.cli.arena import arena
from inhouse.cli.chat import chat
from inhouse.cli.climb import rl, tune
from inhouse.cli.compare import compare
from inhouse.cli.evaluate import evaluate
from inhouse.cli.gateway.app import gateway
from inhouse.cli.ladder import ladder
from inhouse.cli.make import make, plan, trace
from inhouse.cli.merge import merge
from inhouse.cli.prefer import prefer
from inhouse.cli.runs import runs_app
from inhouse.cli.serve import serve
from inhouse.cli.show import data, sft

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
USER_ERROR, INTERNAL_ERROR = 2, 1


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        print(f"inhouse {version('inhouse')}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """From text files to a model of one's own: trained, evaluated, exported and served."""


app.command()(make)
app.add_typer(runs_app, name="runs")
app.command()(chat)
app.command()(serve)
app.command("eval")(evaluate)
app.add_typer(arena, name="arena")
app.add_typer(gateway, name="gateway")
app.command()(compare)
app.add_typer(data, name="data")
app.add_typer(sft, name="sft")
app.command()(merge)
app.command()(prefer)
app.command()(tune)
app.add_typer(rl, name="rl")
app.add_typer(ladder, name="ladder")
app.command()(plan)
app.command()(trace)


def main() -> None:
    """The `inhouse` command: errors are sentences on stderr; `--debug`, in any place, shows the traceback too."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 must not stop a run
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    is_debug = len(arguments) < len(sys.argv) - 1
    try:
        sys.exit(app(["--debug"] * is_debug + arguments, standalone_mode=False))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except Exception as error:
        if hasattr(error, "show"):  # what typer says about arguments that it cannot parse
            error.show()
            sys.exit(USER_ERROR)
        if is_debug:
            raise
        print(f"inhouse: {_sentence(error)}", file=sys.stderr)
        sys.exit(_exit_status(error))


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if _exit_status(error) != INTERNAL_ERROR:
        return str(error)
    return f"internal error ({type(error).__name__}: {error}); --debug shows where"


def _exit_status(error: Exception) -> int:
    """What a stopped run asks for; else 2 where the user can help it, 1 where it is ours."""
    is_users = isinstance(error, ValueError | OSError)
    return int(getattr(error, "exit_status", USER_ERROR if is_users else INTERNAL_ERROR))
