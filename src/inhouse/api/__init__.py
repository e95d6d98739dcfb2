"""Wire types, events, errors and HTTP hardening that servers share. No torch."""
