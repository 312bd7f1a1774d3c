"""The study in miniature: the paper's ten settings, asked again on the embedded lab."""
