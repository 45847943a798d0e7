"""Network layers that need torch only: chunk-restricted attention and the Conformer blocks around it."""
