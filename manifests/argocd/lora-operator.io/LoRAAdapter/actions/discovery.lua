-- What can be done with a LoRAAdapter without further input.
local versions = obj.spec.versions or {}
return {
  unpin = {disabled = versions.pin == nil, iconClass = "fa fa-fw fa-unlock", displayName = "Follow the source again"},
}
