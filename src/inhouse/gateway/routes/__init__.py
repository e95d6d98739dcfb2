"""The paths of the gateway over HTTP: who may ask each, and what answers it."""
