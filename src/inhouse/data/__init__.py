"""Text in, shards of token ids out: sources, documents, tokenizer, shards, loader."""
