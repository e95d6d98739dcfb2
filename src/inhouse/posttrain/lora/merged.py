"""A model folder from a base and the adapters that somebody trained for it."""

from pathlib import Path

from inhouse.checkpoint.adapter_folder import load_adapters, read_adapter_config
from inhouse.checkpoint.model_folder import CONFIG, DTYPES, copy_tokenizer, load_model, save_model, stored_dtype
from inhouse.common.model_paths import find_model
from inhouse.model.lora.adapters import merge_adapters


def merge_folder(adapter: Path, output: Path, base: Path | None = None) -> None:
    """Write the model in `base` with the adapters in the folder `adapter` merged into its weights, in the base's type.

    `base` is a run or a model folder; by default the one that adapter_config.json names, where that is a folder here.
    Tokenizer files that lie beside the adapters take the place of the base's. Raises `ValueError` with a sentence where
    there is no base, where the adapters are not of it, or where `output` holds a model already.
    """
    if (output / CONFIG).exists():
        raise ValueError(f"{output}: there is a model in it already; give another folder")
    if output.resolve() == adapter.resolve():
        raise ValueError(f"{output}: the adapters lie in it, whose tokenizer would be lost; give another folder")
    named = read_adapter_config(adapter).get("base_model_name_or_path")
    if base is None:
        if not isinstance(named, str) or not named or not Path(named).is_dir():
            raise ValueError(f"{adapter}: its base, {named!r}, is no folder here; say where it lies (--base)")
        base = Path(named)
    folder = find_model(base)
    model = load_model(folder, weights_dtype=DTYPES[stored_dtype(folder)])
    load_adapters(model, adapter)
    merge_adapters(model)
    for source in (folder, adapter):
        copy_tokenizer(source, output)
    save_model(model, output, DTYPES[stored_dtype(folder)])
