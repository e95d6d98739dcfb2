"""Low-rank adapters (LoRA): what is trained of a model whose own weights stay as they are."""
