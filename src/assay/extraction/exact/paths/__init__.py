"""Path finding: a decision tree from the identities of the leaves that answer.

The search works on a grid of positions; boxes of positions become a tree, the tree a
scikit-learn estimator. `assay.extraction.exact.path_finding` is the attack.
"""
