"""What the verbs of a climb call: a task of the user's own climbed, kept rollouts scored again."""
