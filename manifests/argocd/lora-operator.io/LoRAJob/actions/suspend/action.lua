-- Stops the job after a checkpoint.
obj.spec.suspend = true
return obj
