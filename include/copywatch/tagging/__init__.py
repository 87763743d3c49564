"""Image -> tag probabilities, and the models for it, built once at set-up."""
