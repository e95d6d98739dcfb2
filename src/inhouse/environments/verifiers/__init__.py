"""What an answer to a published task, or to a user's own file of questions, is worth."""
