-- ARGV: 5 the pin as the node knows it, 6 the version that it moved it away
-- from while it could not reach the store, or "", 7 "1" if it made or moved it
-- without the store.
local is, pin = read()
if is and is.kind == ENDED and now < is.expires then
  return { 3, at }
end
local mine = parse(ARGV[5])
-- What was here since has come after the end of what the node knows.
if is and is.kind == PIN and not pin and mine.made < is.made then
  return { 3, at }
end
if pin then
  if pin.version == mine.version then
    local news = mine.used > pin.used or (pin.unseen and not mine.unseen) or (pin.unsaid and not mine.unsaid)
    pin.used = math.max(pin.used, mine.used)
    -- What was said and seen, the store may have missed.
    pin.unseen, pin.unsaid = pin.unseen and mine.unseen, pin.unsaid and mine.unsaid
    return { 1, at, news and write(pin) or pack(pin) }
  end
  local older = pin.made == mine.made and pin.moves < mine.moves
    or pin.made < mine.made and ARGV[7] ~= '1'
  if pin.version ~= ARGV[6] and not older then
    return { 2, at, pack(pin) }
  end
end
if ends(mine) <= now then
  return { 3, at }
end
-- Others may have shown it, of which the store would have known.
mine.unseen = mine.unseen and mine.owner ~= NOBODY and now < mine.made + LEASE
local v = write(mine)
tell('P', v)
return { 0, at, v }
