"""The verb `gateway`: one door to every model. A configuration is begun, checked, served."""

import asyncio
import os
import time
from pathlib import Path
from typing import Annotated

import typer

from inhouse.cli.gateway.books import audit, reconcile, spend
from inhouse.cli.gateway.keys import keys
from inhouse.cli.gateway.options import DEFAULT, Config
from inhouse.cli.gateway.providers import backtest, cut, drill, route
from inhouse.cli.options import Output, Runs, with_settings, write_manifest
from inhouse.gateway.outside.pods import GatewayPods

gateway = typer.Typer(no_args_is_help=True, help="One door to every model, one's own and others'.")
File = Annotated[Path, typer.Argument(metavar="FILE", help="The gateway's configuration.")]


@gateway.command()
def init(config: Config = DEFAULT, runs: Runs = Path("runs")) -> None:
    """Write a commented configuration that uses what is found: runs, and keys in the environment."""
    from inhouse.gateway.config.init import write_config

    print("\n".join(write_config(config, runs, os.environ)))
    print(f"{config} is written; `inhouse gateway check` says what it comes to")


@gateway.command()
def check(config: File = DEFAULT) -> None:
    """Check a configuration, its keys and its contracts; try to reach its providers; print what it comes to."""
    from inhouse.gateway.administration import known_cuts
    from inhouse.gateway.config.check import check_start, unreachable
    from inhouse.gateway.config.read import open_config
    from inhouse.gateway.config.summary import lines

    file, now = open_config(config), time.time()
    cut = asyncio.run(known_cuts(file.config))
    check_start(file, now, cut)
    print("\n".join(lines(file.config, now)))
    if warnings := asyncio.run(unreachable(file, cut)):
        raise ValueError("\n".join(warnings))


@gateway.command()
@with_settings(GatewayPods)
def serve(
    config: File = DEFAULT,
    host: Annotated[str | None, typer.Option(help="The address to listen on; default: the configuration's.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="0 takes any free one; default: the configuration's.")
    ] = None,
    allowed_hosts: Annotated[
        list[str], typer.Option(metavar="NAME", help="What requests may call the server beside the configuration's.")
    ] = [],  # noqa: B006  (typer copies it)
    emit: Annotated[
        str | None, typer.Option(metavar="kubernetes", help="Print the manifests for a cluster; serve nothing.")
    ] = None,
    name: Annotated[str, typer.Option(help="With --emit: what the manifests are called, behind inhouse-.")] = "gateway",
    output: Output = None,
    *,
    settings: tuple[GatewayPods],
) -> None:
    """Serve the gateway until Ctrl-C or SIGTERM. The first start prints an administrator's key, once."""
    (pods,) = settings
    if emit is not None:
        if emit != "kubernetes":
            raise ValueError(f"--emit {emit}: no such target for the gateway; it is kubernetes")
        from inhouse.gateway.outside.deployment import gateway_deployment

        write_manifest(gateway_deployment(config, name, pods), output)
        return
    if output is not None:
        raise ValueError("--output belongs to --emit kubernetes; add that, or leave it out")
    from inhouse.gateway.server import serve as serve_gateway

    serve_gateway(config, host, port, tuple(allowed_hosts))


gateway.add_typer(keys, name="keys")
gateway.command()(route)
gateway.command()(cut)
gateway.command()(drill)
gateway.command()(backtest)
gateway.command()(spend)
gateway.command()(audit)
gateway.command()(reconcile)
