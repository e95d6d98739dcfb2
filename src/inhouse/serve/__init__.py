"""The HTTP APIs over the engine: OpenAI's, and Anthropic's Messages."""
