-- ARGV: 5 the pin as the node knows it, 6 the version that it moved it away
-- from while it could not reach the store, or "".
local is, pin = read()
if is and is.kind == ENDED and now < is.expires then
  return { 3, at }
end
local mine = parse(ARGV[5])
if pin then
  if pin.version == mine.version then
    if mine.used > pin.used then
      pin.used = mine.used
      return { 1, at, write(pin) }
    end
    return { 1, at, pack(pin) }
  end
  local older = pin.made == mine.made and pin.moves < mine.moves
  if pin.version ~= ARGV[6] and not older then
    return { 2, at, pack(pin) }
  end
end
if ends(mine) <= now then
  return { 3, at }
end
local v = write(mine)
tell('P', v)
return { 0, at, v }
