"""Problems from elsewhere: files of your own, and what others have made."""
