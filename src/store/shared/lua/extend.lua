-- ARGV: 5 when it ends at the latest, in ms.
local _, pin = read()
if not pin then
  return { 0, at }
end
pin.expires = tonumber(ARGV[5])
if ends(pin) <= now then
  return { 0, at }
end
local v = write(pin)
tell('P', v)
return { 1, at, v }
