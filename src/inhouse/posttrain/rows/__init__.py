"""From conversations to the rows of a batch: encoded into files, fitted, packed."""
