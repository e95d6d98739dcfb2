"""How a request of each API is read as what providers are asked, and how their answer is written in its words."""
