"""Scores, significance and RESULTS.md; imports neither torch nor espnet2."""
