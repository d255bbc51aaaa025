-- Starts a new run of the same spec: any new value of this annotation does.
local os = require("os")
local annotations = obj.metadata.annotations or {}
annotations["lora-operator.io/restart"] = os.date("!%Y-%m-%dT%H:%M:%SZ")
obj.metadata.annotations = annotations
return obj
