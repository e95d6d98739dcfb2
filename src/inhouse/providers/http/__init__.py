"""HTTP as a client of others meets it: connections, and events that come over them."""
