"""Durability: where events go before anybody is told of them, and the directories that one daemon owns alone."""
