-- Ends a rollback by hand: what spec.source names is served again.
if obj.spec.versions ~= nil then
  obj.spec.versions.pin = nil
  if next(obj.spec.versions) == nil then
    obj.spec.versions = nil
  end
end
return obj
