"""What is due, in the time that there is."""
