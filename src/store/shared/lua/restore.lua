-- ARGV: 5 the pin as the node knows it, 6 the version that it moved it away
-- from while it could not reach the store, or "".
local is, pin = read()
if is and is.kind == ENDED and now < is.expires then
  return { 3, at }
end
local mine = parse(ARGV[5])
if pin then
  if pin.version == mine.version then
    local news = mine.used > pin.used or (pin.unseen and not mine.unseen) or (pin.unsaid and not mine.unsaid)
    pin.used = math.max(pin.used, mine.used)
    -- What was said and seen, the store may have missed.
    pin.unseen, pin.unsaid = pin.unseen and mine.unseen, pin.unsaid and mine.unsaid
    return { 1, at, news and write(pin) or pack(pin) }
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
