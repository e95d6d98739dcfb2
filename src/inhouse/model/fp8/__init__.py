"""Training with products of 8-bit floats: what is rounded how, what multiplies it, and what it needs."""
