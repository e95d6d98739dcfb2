"""Wire types: what clients may send, and what they are sent, in the words of OpenAI's and Anthropic's APIs."""
