-- KEYS[1]: the era. ARGV: 1 the server's run id (40 bytes), 2 a fresh id (16),
-- 3 for how long new pins wait, in ms, 4 "1" to make them wait anyhow.
local time = redis.call('TIME')
local at = time[1] * 1000000 + time[2]
local now = math.floor(at / 1000)
local era = redis.call('GET', KEYS[1])
local id, open = ARGV[2], now + tonumber(ARGV[3])
if era and string.sub(era, 17, 56) == ARGV[1] then
  id = string.sub(era, 1, 16)
  local was = tonumber(string.sub(era, 57))
  if ARGV[4] ~= '1' or was >= open then
    return { 0, at, id }
  end
end
redis.call('SET', KEYS[1], id .. ARGV[1] .. string.format('%.0f', open))
return { id == ARGV[2] and 1 or 0, at, id }
