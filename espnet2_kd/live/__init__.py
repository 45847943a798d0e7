"""Speech over a WebSocket, words and intents back: the server of the live demo and its page."""
