-- ARGV: 5 the version that was seen, 6 "1" if only a fresh pin may move,
-- 7 the new version, 8 the new body.
local _, pin, v = read()
if not pin then
  return { 2, at }
end
local fresh = pin.unseen and not leased(pin)
if pin.version ~= ARGV[5] or (ARGV[6] == '1' and not fresh) then
  return { 0, at, v }
end
pin.version, pin.body, pin.owner = ARGV[7], ARGV[8], ME
pin.unseen, pin.unsaid, pin.moved, pin.contested = fresh, true, not fresh, false
if not fresh then
  pin.moves = pin.moves + 1
end
v = write(pin)
tell('P', v)
return { 1, at, v }
