"""From files of rows to tokens: read, check, render, split, cut. Never imports torch, never logs a row."""
