"""vLLM as what generates behind our faces: a program of its own, which gets token ids and gives token ids."""
