"""Under which terms a provider may be used: dates, tasks, exclusivity, commitment, what ends it and what follows."""
