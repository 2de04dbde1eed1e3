"""From pools to probabilities, embeddings and the best b."""
