"""A run at Weights & Biases, for those who watch theirs there: an extra, used only where the settings name a project.

It gets the settings and the entries of metrics.jsonl, and of itself takes the machine's name and the list of installed
packages; no code, no command line, no variables. Where it sends them, and whether it does, is said as its users are
used to: `wandb login`, WANDB_MODE=offline.
"""

import secrets
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from inhouse.common.errors import Refusal
from inhouse.common.files import write_atomic

_ID = Path("wandb", "id.txt")  # in the stage's folder: of the run that the next attempt goes on with


def check_installed(project: str) -> None:
    """Raise `Refusal` where wandb is missing."""
    if find_spec("wandb") is None:
        raise Refusal(f"wandb = {project} needs the package of that name: pip install 'inhouse[wandb]'")


class Wandb:
    """One run there for all attempts at one here. Raises `Refusal` where it cannot be begun."""

    def __init__(self, project: str, output: Path, name: str, config: dict[str, Any]) -> None:
        """`output` is the stage's folder, `config` what tells this run from another."""
        import wandb

        (output / _ID).parent.mkdir(exist_ok=True)
        if not (output / _ID).exists():
            write_atomic(output / _ID, secrets.token_hex(4))
        settings = wandb.Settings(
            console="off", disable_git=True, save_code=False, symlink=False, x_disable_meta=True, x_disable_stats=True
        )
        try:
            self._run = wandb.init(
                project=project, id=(output / _ID).read_text(), name=name, resume="allow", dir=output, config=config,
                allow_val_change=True, settings=settings,
            )  # fmt: skip
        except Exception as error:  # of its own kinds, and of those that lie below
            reason = str(error).partition("\n")[0]
            raise Refusal(
                f"wandb = {project}: no run can be begun there ({type(error).__name__}: {reason}); log in "
                f"(wandb login), or set WANDB_MODE=offline"
            ) from error
        # by a step of our own: what is trained again, after a restart or a rewind, would be dropped by its own counter
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, numbers: dict[str, float]) -> None:
        self._run.log({"step": step, **numbers})

    def close(self, has_failed: bool) -> None:
        self._run.finish(exit_code=int(has_failed))
