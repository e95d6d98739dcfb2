"""What only a CPU wants."""
