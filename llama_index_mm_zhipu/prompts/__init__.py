"""Every text that goes into prompts, in Chinese and in English."""
