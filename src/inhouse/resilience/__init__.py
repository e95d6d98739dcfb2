"""What keeps a run going, or ends it with a sentence: hangs, failures, spikes, corruption, SIGTERM."""
