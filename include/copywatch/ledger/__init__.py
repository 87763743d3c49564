"""The relational store: what people decide, and what must happen exactly once."""
