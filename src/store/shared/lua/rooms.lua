-- Room on exits, and users' sessions: for the steps that give or take some.
--
-- A room is a sorted set of who is in it, by when each leaves: the digest of a
-- session's key, with its address behind it where the exit is a prefix. Beside
-- the room of a prefix is a hash of how many have each address.
local KEY_LEN = 16
-- So many addresses of a full prefix are looked at for the least used one.
local MOST_LOOKED = 4096

local function address_of(member)
  local len = #member - KEY_LEN
  return (len == 4 or len == 16) and string.sub(member, KEY_LEN + 1) or nil
end

local function give_back(addresses, member)
  local address = addresses and address_of(member)
  if address and redis.call('HINCRBY', addresses, address, -1) <= 0 then
    redis.call('HDEL', addresses, address)
  end
end

-- Whose time is over leaves.
local function clear(room, addresses, now)
  if addresses then
    for _, member in ipairs(redis.call('ZRANGE', room, '-inf', now, 'BYSCORE')) do
      give_back(addresses, member)
    end
  end
  redis.call('ZREMRANGEBYSCORE', room, '-inf', now)
end

-- Whether it is in, or fits. 0: any number does.
local function fits(room, member, most)
  return most == 0 or redis.call('ZCARD', room) < most or redis.call('ZSCORE', room, member)
end

-- When the first one leaves.
local function first_end(room)
  return redis.call('ZRANGE', room, 0, 0, 'WITHSCORES')[2]
end

-- A name goes an hour or so after all under it has left.
local function keep(name, ends, now)
  if redis.call('PTTL', name) < ends - now then
    redis.call('PEXPIRE', name, ends - now + 3600000)
  end
end

local function enter(room, addresses, member, ends, now)
  if redis.call('ZADD', room, 'GT', ends, member) == 1 then
    local address = addresses and address_of(member)
    if address then
      redis.call('HINCRBY', addresses, address, 1)
    end
  end
  keep(room, ends, now)
  if addresses then
    keep(addresses, ends, now)
  end
end

-- An address that nobody has, this one or the next from there on; where all
-- are taken, one that few have. Those from `first` on, `count` of them, differ
-- in their last four bytes alone.
local function address_near(addresses, wanted, first, count)
  local least = wanted
  local uses = tonumber(redis.call('HGET', addresses, wanted) or 0)
  -- More addresses than are taken: one of them is free.
  local is_any = redis.call('HLEN', addresses) < count
  local stem, place = string.sub(wanted, 1, -5), struct.unpack('>I4', string.sub(wanted, -4)) - first
  local looked = 1
  while uses > 0 and looked < count and (is_any or looked < MOST_LOOKED) do
    place, looked = (place + 1) % count, looked + 1
    local other = stem .. struct.pack('>I4', first + place)
    local its = tonumber(redis.call('HGET', addresses, other) or 0)
    if its < uses then
      least, uses = other, its
    end
  end
  return least
end
