-- Health of a LoRAAdapter. One that no pod asks for is healthy: nothing is wrong, and nothing will happen.
local status = obj.status or {}
if status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "The operator has not seen this spec yet"}
end
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end
local degraded, ready, progressing = conditions["Degraded"], conditions["Ready"], conditions["Progressing"]
if degraded ~= nil and degraded.status == "True" then
  return {status = "Degraded", message = degraded.message or ""}
end
if ready ~= nil and (ready.status == "True" or (ready.status == "Unknown" and ready.reason == "NoPods")) then
  return {status = "Healthy", message = ready.message or ""}
end
return {status = "Progressing", message = (progressing or ready or {}).message or "Waits"}
