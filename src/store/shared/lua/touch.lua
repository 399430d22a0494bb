-- ARGV: 5 version, 6 when it was used, in ms.
local _, pin = read()
local used = tonumber(ARGV[6])
if pin and pin.version == ARGV[5] and used > pin.used then
  pin.used = used
  write(pin)
end
return { 1, at }
