-- Lets the job go on. It writes false instead of taking the field away: a manifest in Git that says false stays in sync.
obj.spec.suspend = false
return obj
