"""Recipes and rigs as data: shipped protocols, each validated and dry-run by a test."""
