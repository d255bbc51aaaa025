"""The trainer held against plain transformers and TRL on this machine: `make bench`.

Numbers of one run are compared with each other and with nothing else. No test runs any of this: a time that passes on
one machine fails on another.
"""
