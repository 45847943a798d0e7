"""Encoders offered to ESPnet2's ASR tasks."""
