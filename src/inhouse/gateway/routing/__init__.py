"""Who answers a request: by what has been measured, within what is allowed."""
