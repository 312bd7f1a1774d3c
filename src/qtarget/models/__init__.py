"""What any Hugging Face causal language model is: loaded, named, cut over ranks, seen as a backbone and a head."""
