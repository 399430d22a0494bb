-- KEYS: 2 the era, 3 the exit's room, 4 how its addresses are used, 5 the user's
-- sessions; a cluster has none of them. ARGV: 5 version, 6 ttl in ms, 7 idle in
-- s, 8 body, 9 the era that the node knows of; 10 how many the exit holds, or
-- 0, 11 how long its room rests, in ms, 12 how many sessions the user may have,
-- or 0; where the exit is a prefix: 13 the address, behind which the body goes
-- on with 14, 15 the first in its last four bytes, 16 how many there are.
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
local made = {
  kind = PIN, version = ARGV[5], owner = ME, made = now, expires = now + tonumber(ARGV[6]), used = now,
  idle = tonumber(ARGV[7]), moves = 0, body = ARGV[8], unseen = true, unsaid = true,
}
local address = ''
if KEYS[3] then
  local member, most = ARGV[3], tonumber(ARGV[12])
  if most > 0 then
    clear(KEYS[5], nil, now)
    if not fits(KEYS[5], member, most) then
      return { -4, at, first_end(KEYS[5]) }
    end
  end
  local addresses = ARGV[13] and KEYS[4]
  clear(KEYS[3], addresses, now)
  if not fits(KEYS[3], member, tonumber(ARGV[10])) then
    return { -3, at }
  end
  if addresses then
    address = address_near(addresses, ARGV[13], tonumber(ARGV[15]), tonumber(ARGV[16]))
    made.body = ARGV[8] .. address .. ARGV[14]
  end
  enter(KEYS[3], addresses, member .. address, ends(made) + tonumber(ARGV[11]), now)
  if most > 0 then
    enter(KEYS[5], nil, member, ends(made), now)
  end
end
write(made)
return { 1, at, address }
