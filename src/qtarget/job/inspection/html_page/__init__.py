"""One HTML file that shows what each token is trained toward."""
