"""One door to every model: picks by measured scores, survives a provider leaving, books every call. No torch."""
