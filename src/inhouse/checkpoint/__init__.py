"""What outlives a process: training state that is refused or right, and models as folders."""
