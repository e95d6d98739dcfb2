"""A model folder that leaves the house: what transformers, vLLM and inhouse itself open."""

from pathlib import Path

from inhouse.checkpoint.model_folder import DTYPES, copy_tokenizer, load_model, save_model


def write_huggingface(model: Path, target: Path, weights: str) -> None:
    """Copy the model folder `model` to `target` with its weights as fp32 or bf16 (routers always fp32).

    Raises `ValueError` where it has no chat template: vLLM would answer every chat request with an error.
    """
    if not (model / "chat_template.jinja").is_file():
        raise ValueError(f"{model}: no chat_template.jinja there; export the fine-tuned model (the sft stage)")
    copy_tokenizer(model, target)
    save_model(load_model(model), target, DTYPES[weights])
