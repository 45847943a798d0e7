"""Kaldi data directories, audio formatting and token lists; imports neither torch nor espnet2."""
