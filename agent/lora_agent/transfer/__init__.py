"""How the files of an adapter come into a folder: the download program and what it is made of.

Only `s3.py` imports boto3, and only the download program imports `s3.py`, so the agent itself stays small.
"""
