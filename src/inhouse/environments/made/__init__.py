"""Problems made by code whose replies a program checks: there is more than one right reply to each."""
