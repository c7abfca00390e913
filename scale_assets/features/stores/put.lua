-- Writes each value that may replace the stored one, in the words of base.replaces.
-- KEYS: of values. ARGV: "push", "add", "follow" or "count"; microseconds after its feature_time at which
-- a value goes, or ""; then one value per key.
-- Returns how many were written, then the positions of values that are neither older nor newer.
local how, keep = ARGV[1], tonumber(ARGV[2])
local reply = {0}

local function is_loaded(value)
    return string.byte(value, 1) >= 128
end

local function replaces(offered, stored)
    if not stored then return true end
    if string.sub(offered, 2) == string.sub(stored, 2) then
        return is_loaded(offered) and not is_loaded(stored)
    end
    if how == 'count' then
        if string.sub(offered, 2, 9) ~= string.sub(stored, 2, 9) then return true end
        return (struct.unpack('<i8', offered, 26)) >= (struct.unpack('<i8', stored, 26))
    end
    local new_time, new_known = struct.unpack('<i8i8', offered, 10)
    local old_time, old_known = struct.unpack('<i8i8', stored, 10)
    local is_newer = new_time > old_time or (new_time == old_time and new_known > old_known)
    local is_equal = new_time == old_time and new_known == old_known
    if how ~= 'push' and is_loaded(stored) then
        if how == 'follow' then return true end
        if is_equal then return nil end
        return is_newer
    end
    return is_newer or is_equal
end

for i, key in ipairs(KEYS) do
    local offered = ARGV[i + 2]
    local wins = replaces(offered, redis.call('GET', key))
    if wins then
        if keep then
            local until_ms = math.floor((struct.unpack('<i8', offered, 10) + keep) / 1000)
            redis.call('SET', key, offered, 'PXAT', string.format('%.0f', math.max(until_ms, 1)))
        else
            redis.call('SET', key, offered)
        end
        reply[1] = reply[1] + 1
    elseif wins == nil then
        reply[#reply + 1] = i
    end
end
return reply
