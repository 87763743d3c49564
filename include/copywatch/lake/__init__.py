"""The Delta tables: what they are called, what their rows say, how they are written and read."""
