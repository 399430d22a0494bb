-- KEYS: rooms. How much of each is taken.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local counts = {}
for i, room in ipairs(KEYS) do
  counts[i] = redis.call('ZCOUNT', room, '(' .. now, '+inf')
end
return counts
