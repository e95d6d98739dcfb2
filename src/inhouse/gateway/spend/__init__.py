"""What calls cost: prices, the cost of an attempt, the provider's own bill against the ledger, sums and exports."""
