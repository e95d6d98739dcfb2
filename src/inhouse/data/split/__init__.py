"""Which documents are kept, and which of those are held out."""
