"""The verb `serve`: by our own engine or by vLLM, here or, as manifests, on a cluster."""

import os
from pathlib import Path
from typing import Annotated

import typer

from inhouse.api.settings import ServeSettings
from inhouse.cli.options import Dtype, ModelPath, Output, as_flags, with_settings, write_manifest
from inhouse.cli.terminal import warn_of_stale
from inhouse.engine.settings import ServingSettings
from inhouse.jobs.settings import PodSettings

ENGINES = ("inhouse", "vllm")
_HOST = "127.0.0.1"


@with_settings(ServeSettings, ServingSettings, PodSettings)
def serve(
    context: typer.Context,
    model: ModelPath,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8000,
    host: Annotated[str | None, typer.Option(help=f"The address to listen on; default: {_HOST}.")] = None,
    name: Annotated[str | None, typer.Option(help="What requests call the model; default: its folder's name.")] = None,
    api_key_env: Annotated[
        str | None,
        typer.Option(metavar="VARIABLE", help="The environment variable with the API key; several: one a line."),
    ] = None,
    dtype: Dtype = "auto",
    engine: Annotated[
        str, typer.Option(metavar="inhouse|vllm", help="What generates; vllm is a program to install apart.")
    ] = "inhouse",
    gpus: Annotated[
        int | None, typer.Option(min=0, help="GPUs that vLLM shares a model out to; with --emit those of a pod.")
    ] = None,
    emit: Annotated[
        str | None, typer.Option(metavar="kubernetes", help="Print the manifests for a cluster; serve nothing.")
    ] = None,
    output: Output = None,
    *,
    settings: tuple[ServeSettings, ServingSettings, PodSettings],
) -> None:
    """Serve a model over HTTP with the OpenAI API, until Ctrl-C or SIGTERM."""
    _check(engine, gpus, emit, output, settings)
    if engine == "vllm":
        from inhouse.serve.vllm.program import check_settings

        check_settings(settings[1])
    from inhouse.api.middleware import keys_of
    from inhouse.common.model_paths import find_exported, find_model, model_name

    if emit is not None:
        from inhouse.jobs.deployment import Deployment, deployment

        limits = settings[0]
        wanted = Deployment(
            name=name or model_name(model), model=model, port=port, host=host, key_variable=api_key_env or "",
            dtype=dtype, engine=engine, gpus=1 if gpus is None else gpus,
            flags=[*as_flags(limits), *as_flags(settings[1])],
            shutdown_timeout=limits.shutdown_timeout if "shutdown_timeout" in limits.model_fields_set else None,
            has_tls=bool(limits.tls_certificate or limits.tls_key), max_sequences=settings[1].max_sequences,
            pods=settings[2], is_debug=bool(context.parent and context.parent.params.get("debug")),
        )  # fmt: skip
        write_manifest(deployment(wanted), output)
        return
    api_key = None if api_key_env is None else os.environ.get(api_key_env)
    if api_key_env is not None and not keys_of(api_key or ""):
        raise ValueError(f"--api-key-env {api_key_env}: this environment variable is not set, or empty")
    folder = find_exported(model) if engine == "vllm" else find_model(model)
    warn_of_stale(folder if engine == "vllm" else model)
    name = name or model_name(model)
    print(f"opening {name} ({folder})", flush=True)
    if engine == "vllm":
        from inhouse.serve.vllm.server import serve as serve_with_vllm

        serve_with_vllm(
            folder, host or _HOST, port, api_key, settings[0], name=name, engine=settings[1], dtype=dtype,
            key_variable=api_key_env or "", gpus=gpus or 1,
        )  # fmt: skip
        return
    from inhouse.serve.server import serve as serve_model

    serve_model(
        folder, host or _HOST, port, api_key, settings[0], name=name, engine=settings[1], dtype=dtype,
        key_variable=api_key_env or "",
    )  # fmt: skip


def _check(
    engine: str,
    gpus: int | None,
    emit: str | None,
    output: Path | None,
    settings: tuple[ServeSettings, ServingSettings, PodSettings],
) -> None:
    """Refuse options that do not go together, before anything is read."""
    pods = settings[2]
    if engine not in ENGINES:
        raise ValueError(f"--engine {engine}: no such engine; it is one of {', '.join(ENGINES)}")
    if emit not in (None, "kubernetes"):
        raise ValueError(f"--emit {emit}: no such target for serving; it is kubernetes")
    if emit is None and (output is not None or pods.model_fields_set):
        first = "output" if output is not None else min(pods.model_fields_set)
        raise ValueError(f"--{first.replace('_', '-')} belongs to --emit kubernetes; add that, or leave it out")
    if engine == "vllm" and gpus == 0:
        raise ValueError("--gpus 0: vLLM is started for GPUs here; leave --engine vllm out to serve from a CPU")
    if engine == "inhouse" and (gpus or 0) > (1 if emit else 0):
        raise ValueError(
            f"--gpus {gpus}: inhouse's own engine uses the one GPU that it finds; --engine vllm takes more"
        )
    if emit and engine == "inhouse" and settings[1].weights == "int8" and gpus != 0:
        raise ValueError("--weights int8 is for generation on a CPU, and a pod has a GPU; add --gpus 0")
    if engine == "inhouse" and emit is None and gpus == 0:
        raise ValueError("--gpus 0 belongs to --emit kubernetes; here the GPU is used where there is one")
