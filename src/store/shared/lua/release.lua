-- KEYS as for reserve. ARGV: 1 the session key's digest, 2 until when the
-- room rests, in ms, or 0.
local until_ms = tonumber(ARGV[2])
if until_ms > 0 then
  redis.call('ZADD', KEYS[1], until_ms, ARGV[1])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
if KEYS[2] and redis.call('GET', KEYS[2]) == ARGV[1] then
  redis.call('DEL', KEYS[2])
end
return { 1 }
