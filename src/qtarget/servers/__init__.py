"""The client's side of HTTP, for every server that is asked: one request, and patience while a server is away."""
