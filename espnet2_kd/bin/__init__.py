"""Command lines, run as `python -m espnet2_kd.bin.<verb>`."""
