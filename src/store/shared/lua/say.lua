-- ARGV: 5 the version of which a success is about to be answered.
local _, pin = read()
if not pin or pin.version ~= ARGV[5] then
  return { -1, at }
end
local takes = pin.moved or pin.owner == ME or now >= pin.made + LEASE
local news = 0
if pin.unsaid and takes then
  news = pin.moved and 2 or 1
end
local contested = pin.contested
if pin.unseen or contested or (takes and pin.unsaid) then
  pin.unseen, pin.contested = false, false
  if takes then
    pin.unsaid, pin.moved = false, false
  end
  local v = write(pin)
  if contested then
    tell('P', v)
  end
end
return { news, at }
