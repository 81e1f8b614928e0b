"""What paddleinfer costs and gains, measured; see README.md."""
