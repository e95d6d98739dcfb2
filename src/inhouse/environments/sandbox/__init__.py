"""Python programs that nobody vouches for, run where they can do no harm: one process, little memory, no network."""
