"""What the `inhouse` command reads and prints, a file a family of verbs; the library does the rest."""
