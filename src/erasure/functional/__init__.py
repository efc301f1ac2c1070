"""Pure tensor mathematics: losses, divergences, scores, masks. Nothing here has state."""
