"""What each step of the chain does. A scheduler calls these; they know of no scheduler.

Each takes the name of its run, may be called again for the same run, ends with a small table in the log, and returns
plain values.
"""
