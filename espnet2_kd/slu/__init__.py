"""Intents from speech."""
