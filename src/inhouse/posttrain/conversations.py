"""What a fine-tuned model's folder says of the conversations that it was trained on."""

from pathlib import Path

from inhouse.common.files import read_json
from inhouse.environments.registry import check_name, file_of

CONVERSATIONS = "conversations.json"  # in a fine-tuned folder: what it was trained on
TAUGHT = "taught.jsonl"  # in one that held no own conversation out: some of those that it was trained on
# files of a model folder, and where in them the environments stand: of fine-tuning, of reinforcement learning
_TAUGHT_BY = {
    CONVERSATIONS: ("generated",),
    "stage.json": ("settings", "sft", "generated"),
    "lineage.json": ("stages", "sft", "settings", "sft", "generated"),
}
_CLIMBED_ON = {
    "stage.json": ("settings", "rl", "environments"),
    "lineage.json": ("stages", "rl", "settings", "rl", "environments"),
}


def trained_on(folder: Path) -> list[str]:
    """The environments whose problems the model in `folder` was trained on; none where the folder does not say.

    Those of fine-tuning, then those of reinforcement learning. A stage folder says it in its own files, an exported one
    in its lineage. Those whose files are not here, where the model may have come to from another machine, are left out.
    """
    told = [*_said(folder, _TAUGHT_BY), *_said(folder, _CLIMBED_ON)]
    return [check_name(name) for name in dict.fromkeys(told) if _is_here(name)]


def _said(folder: Path, places: dict[str, tuple[str, ...]]) -> list[str]:
    """The names with a count or a weight, of the first file that has any."""
    for file, keys in places.items():
        found = read_json(folder / file) if (folder / file).is_file() else {}
        for key in keys:
            found = found.get(key, {})
        if found:
            return [name for name, count in found.items() if count]
    return []


def _is_here(name: str) -> bool:
    file = file_of(name)
    return file is None or file.exists()
