-- Leases of several scopes in one step, by Redis's own clock. ADR 19 tells what the numbers mean.
--
-- KEYS[1]  the living: a sorted set of workers by the time, in ms, at which they were last heard of
-- KEYS[2…] in the order of the asks: a hash for each scope's rates and places, and one for each running budget window
-- ARGV     the worker, ms after which a silent one is dead, "1" if it leaves, and the asks as JSON
--
-- An ask is {q = {limit, have, need, want}, t = {…, whole}, c = {limit, running, need, want}, b = {budget, …}}, each
-- member only if there is such a limit; a budget is {amount, spent, told, seen, ledger, reserved, need, want, first,
-- seconds}. `want` is at least `need`.
-- The answer is {number of living workers, 1 if this one was unknown, answer to each ask}, all numbers as strings:
-- {q = {lease, left}, t = {lease, left}, c = {places, left}, {held, left, spent, own, others}, …} as a flat list.

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local me, patience, asks = ARGV[1], tonumber(ARGV[2]), cjson.decode(ARGV[4])

local unknown = redis.call('ZADD', KEYS[1], now, me)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', now - patience))
redis.call('PEXPIRE', KEYS[1], patience * 10)
local living = redis.call('ZCARD', KEYS[1])

local function read(key)
  local flat, hash = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do hash[flat[i]] = flat[i + 1] end
  return hash
end

-- What is needed, and of the rest a part that leaves something for the others, however little there is.
local function part(left, need, want)
  if left <= need then return math.max(0, left) end
  return math.min(want, need + (left - need) / (2 * living))
end

-- What the others hold; the dead are forgotten. `others` of a field like c:NAME, less this worker's.
local function others(key, hash, kind)
  local sum = 0
  for field, value in pairs(hash) do
    local name = string.sub(field, 3)
    if string.sub(field, 1, 2) == kind .. ':' and name ~= me then
      if redis.call('ZSCORE', KEYS[1], name) then
        sum = sum + tonumber(value)
      else
        redis.call('HDEL', key, field, 's:' .. name)
      end
    end
  end
  return sum
end

local function text(number) return string.format('%.6f', number) end

-- A bucket that refills steadily. What the worker still has goes back first (a debt is paid), then it gets its lease.
local function rate(key, hash, kind, ask)
  local limit, have, need, want, whole = ask[1], ask[2], ask[3], ask[4], ask[5] or 0
  local level, before = tonumber(hash[kind] or limit), tonumber(hash[kind .. 'l'] or limit)
  local minutes = math.max(0, now - tonumber(hash.at or now)) / 60000
  level = math.min(before, level + minutes * before)
  if before ~= limit then level = math.min(limit, level + limit - before) end
  local left = math.min(limit, level + have)
  local lease = 0
  if whole > 0 and left >= limit then
    lease = whole -- larger than the whole limit, which a full bucket may grant
  else
    lease = part(left, need, want)
  end
  if kind == 'q' then lease = math.floor(lease) end
  redis.call('HSET', key, kind, text(left - lease), kind .. 'l', text(limit))
  return text(lease), text(left - lease)
end

local function places(key, hash, ask)
  local limit, running, need, want = ask[1], ask[2], ask[3], ask[4]
  local left = limit - others(key, hash, 'c')
  local held = math.max(running, math.floor(part(left, need, want)))
  if held > 0 then
    redis.call('HSET', key, 'c:' .. me, held)
  else
    redis.call('HDEL', key, 'c:' .. me)
  end
  return text(held), text(left - held)
end

-- Spent is what the workers have told, or what the ledger says: both are at most the truth. `told` is what of the
-- worker's own sum was in `seen`, so a Redis that has lost either is told once more, and nothing is added twice.
local function purse(key, ask)
  local amount, spent, told, seen, ledger = ask[1], ask[2], ask[3], ask[4], ask[5]
  local reserved, need, want, first, seconds = ask[6], ask[7], ask[8], ask[9], ask[10]
  local hash = read(key)
  local own = math.max(tonumber(hash.own or ledger), seen)
  own = own + math.max(0, spent - math.max(tonumber(hash['s:' .. me] or 0), told))
  ledger = math.max(ledger, tonumber(hash.ledger or 0))
  local gone, elsewhere = math.max(own, ledger), others(key, hash, 'h')
  local left = amount - gone - elsewhere
  local held = math.max(reserved, math.floor(part(left, need, want)))
  if first > 0 and elsewhere == 0 and gone < amount then held = math.max(held, first) end -- alone: the last cent
  redis.call('HSET', key, 'own', text(own), 'ledger', text(ledger), 's:' .. me, text(spent), 'h:' .. me, text(held))
  redis.call('PEXPIRE', key, seconds * 1000)
  return text(held), text(left - held), text(gone), text(own), text(elsewhere)
end

local answers, at = {}, 2
for _, ask in ipairs(asks) do
  local answer = {}
  local function add(...)
    for _, value in ipairs({ ... }) do answer[#answer + 1] = value end
  end
  if ask.q or ask.t or ask.c then
    local key = KEYS[at]
    at = at + 1
    local hash = read(key)
    if ask.q then add(rate(key, hash, 'q', ask.q)) end
    if ask.t then add(rate(key, hash, 't', ask.t)) end
    if ask.c then add(places(key, hash, ask.c)) end
    redis.call('HSET', key, 'at', string.format('%.0f', now))
    redis.call('PEXPIRE', key, math.max(180000, patience * 20))
  end
  for _, budget in ipairs(ask.b or {}) do
    add(purse(KEYS[at], budget))
    at = at + 1
  end
  answers[#answers + 1] = answer
end
if ARGV[3] == '1' then redis.call('ZREM', KEYS[1], me) end
return { living, unknown, answers }
