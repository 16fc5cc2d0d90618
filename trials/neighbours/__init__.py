"""What a workspace that takes all it can costs those beside it: ``scripts/neighbours``."""
