"""The built-in corpus: speech rendered by espeak-ng, for showing and testing the chain.

Rendered speech is no evidence of accuracy on people.
"""
