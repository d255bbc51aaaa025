"""Why a LoRAJob or a LoRAAdapter is as it is: pure decisions over a snapshot that was collected before.

Nothing here asks a cluster. The operator's own words come first; what it cannot say, because it does not run or has not
looked yet, is read from Jobs, pods and events.
"""
