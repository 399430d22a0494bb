-- KEYS[1]: what each user has moved on a day. ARGV: 1 for how long that is kept,
-- in ms; then of each user its name, how many bytes more it has moved, and how
-- many in all as far as the node knows, which the store may have lost. How many
-- in all.
local totals = {}
for i = 2, #ARGV, 3 do
  local user, more, known = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local total = tonumber(redis.call('HGET', KEYS[1], user) or 0)
  local now = math.max(total + more, known)
  if now ~= total then
    redis.call('HSET', KEYS[1], user, string.format('%.0f', now))
  end
  totals[#totals + 1] = now
end
if #totals > 0 and redis.call('PTTL', KEYS[1]) < 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return totals
