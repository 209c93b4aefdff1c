"""The gateway's HTTP side: wire formats, limits, the request path, and the application."""
