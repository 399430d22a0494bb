-- KEYS: 1 a room: an exit's, or a user's sessions, 2 how the exit's addresses
-- are used, where it is a prefix. ARGV: 1 the session key's digest, 2 until when
-- it is in, in ms, 3 how many fit, or 0; of a prefix: 4 the address, 5 the first
-- in its last four bytes, 6 how many there are; 0: exactly that address if
-- nobody has it, -1: exactly that address, which is this pin's.
local time = redis.call('TIME')
local at = time[1] * 1000000 + time[2]
local now = math.floor(at / 1000)
local until_ms, address = tonumber(ARGV[2]), ''
clear(KEYS[1], KEYS[2], now)
if not fits(KEYS[1], ARGV[1], tonumber(ARGV[3])) then
  return { 0, at, first_end(KEYS[1]) }
end
if KEYS[2] then
  local count = tonumber(ARGV[6])
  address = ARGV[4]
  if count == 0 and redis.call('HEXISTS', KEYS[2], address) == 1 then
    return { 0, at }
  elseif count > 0 then
    address = address_near(KEYS[2], address, tonumber(ARGV[5]), count)
  end
end
enter(KEYS[1], KEYS[2], ARGV[1] .. address, until_ms, now)
return { 1, at, address }
