"""The endpoints that generate, embed and tokenize: what each reads, and how it says what the model said."""
