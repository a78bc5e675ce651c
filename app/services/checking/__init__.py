"""Is this machine right for local models? Each module looks at one side of it."""
