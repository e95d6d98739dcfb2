"""Answers in the words of OpenAI's and Anthropic's APIs, whole and as a stream."""
