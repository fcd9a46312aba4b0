"""Contractions of linear votes for GPUs and TPUs: a pass over children, and its readable twin.

Functions of arrays alone, below the votes that choose between them (docs/decisions/0019).
"""
