"""The contract that every part of the project shares.

Types of the resources, of the job file, of artifacts and messages; names, labels, reasons and exit codes. It holds no
behaviour beyond what follows from the types alone, and imports pydantic only, so that a trainer pod, the operator and
a laptop can never disagree about a word.
"""
