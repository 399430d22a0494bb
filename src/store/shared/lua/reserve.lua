-- KEYS: 1 the exit's pins by their ends, 2 the address of its prefix, where
-- there is one. ARGV: 1 the session key's digest, 2 until when room is taken,
-- in ms, 3 how many fit, or 0.
local time = redis.call('TIME')
local at = time[1] * 1000000 + time[2]
local now = math.floor(at / 1000)
local most, ends = tonumber(ARGV[3]), tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local there = redis.call('ZSCORE', KEYS[1], ARGV[1])
if most > 0 and not there and redis.call('ZCARD', KEYS[1]) >= most then
  local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  return { 0, at, first[2] }
end
if KEYS[2] then
  local taken = redis.call('GET', KEYS[2])
  if taken and taken ~= ARGV[1] then
    return { -1, at }
  end
  redis.call('SET', KEYS[2], ARGV[1], 'PX', math.max(ends - now, 1))
end
redis.call('ZADD', KEYS[1], ends, ARGV[1])
return { 1, at }
