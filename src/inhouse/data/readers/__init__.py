"""From files of every known format to documents, streamed: `reader.Reader` puts together what the others can open."""
