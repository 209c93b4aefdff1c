"""What stands behind the gateway: a model of our own, or another inference server."""
