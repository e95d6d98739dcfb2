"""What only a GPU wants: kernels in Triton, each behind a seam whose reference is torch."""
