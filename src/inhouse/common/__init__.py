"""What every room may use: strict settings, files and digests, progress, processes."""
