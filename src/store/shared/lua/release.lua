-- KEYS as for reserve. ARGV: 1 the session key's digest, with its address behind
-- it where it has one, 2 until when the room rests, in ms, or 0.
local time = redis.call('TIME')
local at = time[1] * 1000000 + time[2]
local now = math.floor(at / 1000)
local rests = tonumber(ARGV[2])
if redis.call('ZREM', KEYS[1], ARGV[1]) == 1 then
  give_back(KEYS[2], ARGV[1])
  if rests > now then
    -- Not the session's any more, which may come back meanwhile.
    enter(KEYS[1], nil, 'rest' .. struct.pack('>I8', at) .. string.sub(ARGV[1], 1, KEY_LEN), rests, now)
  end
end
return { 1, at }
