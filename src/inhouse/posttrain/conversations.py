"""What a fine-tuned model's folder says of the conversations that it was trained on."""

from pathlib import Path

from inhouse.common.files import read_json
from inhouse.environments.registry import check_name, file_of

CONVERSATIONS = "conversations.json"  # in a fine-tuned folder: what it was trained on
TAUGHT = "taught.jsonl"  # in one that held no own conversation out: some of those that it was trained on
_SAY_IT = {  # files of a model folder, and where in them the environments stand
    CONVERSATIONS: ("generated",),
    "stage.json": ("settings", "sft", "generated"),
    "lineage.json": ("stages", "sft", "settings", "sft", "generated"),
}


def trained_on(folder: Path) -> list[str]:
    """The environments whose problems the model in `folder` was fine-tuned on; none where the folder does not say.

    A stage folder says it in its own files, an exported one in its lineage. Those whose files are not here, where the
    model may have come to from another machine, are left out.
    """
    for file, keys in _SAY_IT.items():
        found = read_json(folder / file) if (folder / file).is_file() else {}
        for key in keys:
            found = found.get(key, {})
        if found:
            return [check_name(name) for name, count in found.items() if count and _is_here(name)]
    return []


def _is_here(name: str) -> bool:
    file = file_of(name)
    return file is None or file.exists()
