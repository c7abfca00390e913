-- Moves a view's newest feature_time (a field of a hash) and the store's clock, never back.
-- KEYS: the hash, the clock. ARGV: view, feature_time or "", known_at.
local feature_time = tonumber(ARGV[2])
local newest = tonumber(redis.call('HGET', KEYS[1], ARGV[1]))
if feature_time and (not newest or newest < feature_time) then
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
local clock = tonumber(redis.call('GET', KEYS[2]))
if not clock or clock < tonumber(ARGV[3]) then redis.call('SET', KEYS[2], ARGV[3]) end
return 1
