"""What runs a Chinese-CLIP model: torch or OpenVINO."""
