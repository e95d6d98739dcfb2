"""The recipes that come with inhouse."""

from importlib import resources
from pathlib import Path


def ready_recipes() -> dict[str, Path]:
    """The recipes that come with inhouse, by name: in the wheel inside the package, in a checkout beside `src`."""
    package = Path(str(resources.files("inhouse")))
    folders = (package / "recipes", package.parents[1] / "recipes")
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find_recipe(name: str) -> Path:
    """The file that `name` means: a path, or the name of a ready recipe.

    Raises `ValueError` listing the ready recipes where there is neither.
    """
    path, ready = Path(name), ready_recipes()
    if path.is_file():
        return path
    if name in ready:
        return ready[name]
    raise ValueError(f"{name}: no such recipe; give a .toml file or one of {', '.join(ready)}")
