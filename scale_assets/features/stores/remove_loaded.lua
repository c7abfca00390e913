-- Deletes the values of KEYS that were loaded from the lake. Returns how many.
local num_removed = 0
for _, key in ipairs(KEYS) do
    local head = redis.call('GETRANGE', key, 0, 0)
    if head ~= '' and string.byte(head) >= 128 then
        num_removed = num_removed + redis.call('UNLINK', key)
    end
end
return num_removed
