"""Chinese-CLIP: official and user-trained checkpoints, their inputs and their vectors."""
