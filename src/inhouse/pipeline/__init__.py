"""The stages in order, each made whole or absent, and what every one depends on."""
