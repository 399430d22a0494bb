-- KEYS[2]: the era, where there is one. ARGV: 5 version, 6 ttl in ms, 7 idle
-- in s, 8 body, 9 the era that the node knows of.
local _, pin, v = read()
if pin then
  return { 0, at, meet(pin, v) }
end
if KEYS[2] then
  local era = redis.call('GET', KEYS[2])
  if not era or string.sub(era, 1, 16) ~= ARGV[9] then
    return { -1, at }
  end
  local open = tonumber(string.sub(era, 57))
  if now < open then
    return { -2, at, tostring(open - now) }
  end
end
write({
  kind = PIN, version = ARGV[5], owner = ME, made = now, expires = now + tonumber(ARGV[6]), used = now,
  idle = tonumber(ARGV[7]), moves = 0, body = ARGV[8], unseen = true, unsaid = true,
})
return { 1, at }
