"""What a cluster needs to start us: Slurm and Kubernetes files."""
