"""Batch jobs: a file of prompts, answered in the batch class of the queue, kept on disk, each prompt exactly once."""
