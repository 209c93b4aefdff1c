"""Proof of work: signed challenges, proofs, their verification, and solvers.

Standard library and httpx only, so that a client needs nothing of what makes models.
"""
