"""inhouse: a foundation-model lab that an organisation owns.

`import inhouse; model = inhouse.load("runs/preview"); model.chat("What is 17 + 25?")`
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inhouse.chat import Model


def load(path: str | Path) -> "Model":
    """Open a model: a run folder, an exported folder, or any folder in Hugging Face layout that inhouse knows.

    Raises `ValueError` with a sentence where there is none.
    """
    from inhouse.chat import Model  # here, because torch takes seconds to import

    return Model.load(path)
