-- Health of a LoRAJob. The first of these conditions that is True decides.
local verdicts = {
  {"Failed", "Degraded"},
  {"Stalled", "Degraded"},
  {"Succeeded", "Healthy"},
  {"Suspended", "Suspended"},
}
local status = obj.status or {}
if status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "The operator has not seen this spec yet"}
end
local messages = {}
for _, condition in ipairs(status.conditions or {}) do
  if condition.status == "True" then
    messages[condition.type] = condition.message or ""
  end
end
for _, verdict in ipairs(verdicts) do
  local message = messages[verdict[1]]
  if message ~= nil then
    return {status = verdict[2], message = message}
  end
end
return {status = "Progressing", message = messages["Running"] or status.reason or "Waits"}
