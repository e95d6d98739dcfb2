"""inhouse: a foundation-model lab that an organisation owns.

`import inhouse; model = inhouse.load("runs/preview"); model.chat("What is 17 + 25?")`
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inhouse.chat import Model


def load(path: str | Path, dtype: str = "fp32") -> "Model":
    """Open a model: a run folder, an exported folder, or any folder in Hugging Face layout that inhouse knows.

    It computes in `dtype` (fp32 or bf16), on the GPU where there is one.
    Raises `ValueError` with a sentence where there is no model.
    """
    from inhouse.chat import Model  # here, because torch takes seconds to import

    return Model.load(path, dtype)
