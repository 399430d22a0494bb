-- What every step begins with. KEYS[1]: the session's key. ARGV: 1 the node,
-- 2 the channel, 3 the session key's digest, 4 the lease in ms; the rest is
-- the step's own. `core/shared/cell.rs` says the same in Rust, and a test
-- holds both against each other.
local HEAD = '<BBBBc8c8I8I8I8I4I4'
local HEAD_LEN = 52
local PIN, ENDED = 1, 2
local NOBODY = string.rep('\0', 8)
local ME, LEASE = ARGV[1], tonumber(ARGV[4])

local time = redis.call('TIME')
local at = time[1] * 1000000 + time[2]
local now = math.floor(at / 1000)

local function parse(v)
  local format, kind, flags, _, version, owner, made, expires, used, idle, moves = struct.unpack(HEAD, v)
  if format ~= 1 then
    error({ err = 'FORMAT a newer gateway wrote this pin; upgrade this one' })
  end
  return {
    kind = kind, version = version, owner = owner, made = made, expires = expires, used = used,
    idle = idle, moves = moves, body = string.sub(v, HEAD_LEN + 1),
    unseen = flags % 2 >= 1, unsaid = flags % 4 >= 2, moved = flags % 8 >= 4, contested = flags % 16 >= 8,
  }
end

local function ends(pin)
  if pin.idle == 0 then
    return pin.expires
  end
  return math.min(math.ceil(pin.used / 1000) * 1000 + pin.idle * 1000, pin.expires)
end

-- What is under the key, and it if it is a live pin.
local function read()
  local v = redis.call('GET', KEYS[1])
  if not v then
    return nil, nil
  end
  local is = parse(v)
  if is.kind == PIN and now < ends(is) then
    return is, is, v
  end
  return is, nil
end

local function pack(pin)
  local flags = (pin.unseen and 1 or 0) + (pin.unsaid and 2 or 0) + (pin.moved and 4 or 0)
    + (pin.contested and 8 or 0)
  return struct.pack(HEAD, 1, pin.kind, flags, 0, pin.version, pin.owner, pin.made, pin.expires,
    pin.used, pin.idle, pin.moves) .. pin.body
end

-- A key never goes sooner than it would have: what follows a pin that was
-- ended bars, for as long as that would have lived, whoever missed its end.
local function put(v, expires)
  redis.call('SET', KEYS[1], v, 'PX', math.max(expires - now, redis.call('PTTL', KEYS[1]), 1))
end

local function write(pin)
  local v = pack(pin)
  put(v, ends(pin))
  return v
end

local function tell(kind, v)
  redis.call('PUBLISH', ARGV[2], ARGV[3] .. ME .. struct.pack('<I8', at) .. kind .. v)
end

local function leased(pin)
  return pin.unseen and pin.owner ~= ME and now < pin.made + LEASE
end

-- The live pin as another node gets it: its owner will tell what becomes of
-- it.
local function meet(pin, v)
  if not pin.contested and leased(pin) then
    pin.contested = true
    v = write(pin)
  end
  return v
end
