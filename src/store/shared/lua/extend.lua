-- ARGV: 5 the version that was seen, 6 until when it lasts at least, in ms,
-- 7 the longest life, in ms.
local _, pin, v = read()
if not pin then
  return { 2, at }
end
if pin.version ~= ARGV[5] then
  return { 0, at, v }
end
local expires = math.min(tonumber(ARGV[6]), pin.made + tonumber(ARGV[7]))
if expires > pin.expires then
  pin.expires = expires
  v = write(pin)
  tell('P', v)
end
return { 1, at, v }
