"""Weights of single tokens, as rows give them.

token_weight  the column `token_weight`, given or made from `weight_spans`
spans         weights on stretches of characters, turned into weights on tokens
"""
