-- What is left behind keeps a node that missed this from bringing the pin
-- back; it goes when the pin would have gone.
local _, pin, v = read()
if not pin then
  return { 0, at }
end
pin.kind, pin.body = ENDED, ''
redis.call('SET', KEYS[1], pack(pin), 'PX', math.max(pin.expires - now, 1))
tell('E', '')
return { 1, at, v }
