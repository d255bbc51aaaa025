-- What can be done with a LoRAJob without further input.
local suspended = obj.spec.suspend == true
local succeeded = false
for _, condition in ipairs((obj.status or {}).conditions or {}) do
  if condition.type == "Succeeded" and condition.status == "True" then
    succeeded = true
  end
end
return {
  suspend = {disabled = suspended or succeeded, iconClass = "fa fa-fw fa-pause", displayName = "Suspend"},
  resume = {disabled = not suspended, iconClass = "fa fa-fw fa-play", displayName = "Resume"},
  restart = {iconClass = "fa fa-fw fa-redo", displayName = "Train again"},
}
