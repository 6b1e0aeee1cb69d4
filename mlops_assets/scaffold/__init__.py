"""A declaration and a contract written from one sample file: what `mlops-assets new` does.

What is inferred is said aloud; what cannot be known is asked for, never guessed in silence.
"""
