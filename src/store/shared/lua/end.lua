-- What is left behind keeps a node that missed this from bringing the pin
-- back; it goes when the pin would have gone.
local _, pin, v = read()
if not pin then
  return { 0, at }
end
pin.kind, pin.body = ENDED, ''
pin.expires = math.max(pin.expires, now + redis.call('PTTL', KEYS[1]))
put(pack(pin), pin.expires)
tell('E', '')
return { 1, at, v }
