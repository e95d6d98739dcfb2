"""Two models on the same items: what differs, how sure that is, what could have been seen. No torch."""
