"""The model: single-device modules that know no distributed code and no files."""
