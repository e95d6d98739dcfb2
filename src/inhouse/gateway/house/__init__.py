"""Models of one's own as providers: processes that the gateway starts, watches and ends."""
