"""Whether the advice of a diagnosis brings what it predicts."""
