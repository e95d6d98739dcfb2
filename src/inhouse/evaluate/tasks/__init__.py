"""What models are asked: tasks of one shape, a family of them a file. No torch."""
