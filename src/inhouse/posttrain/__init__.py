"""After pretraining: the chat template, conversations and problems made by code, supervised fine-tuning."""
