"""What an alert says, and the channels it goes out by."""
