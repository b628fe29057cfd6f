-- Targets that rest, as all workers see them: a hash of target -> time, in ms, until which it rests.
--
-- KEYS[1]  the hash
-- ARGV[1]  JSON {rests = {target, ms from now, …}, answers = {target, …}}: what one worker has to tell
-- The answer is a flat list of target and ms from now, as strings.

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local told = cjson.decode(ARGV[1])

for _, target in ipairs(told.answers) do redis.call('HDEL', KEYS[1], target) end
for i = 1, #told.rests, 2 do
  local ends = now + told.rests[i + 1]
  if ends > tonumber(redis.call('HGET', KEYS[1], told.rests[i]) or 0) then
    redis.call('HSET', KEYS[1], told.rests[i], string.format('%.0f', ends))
  end
end

local answer, all = {}, redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local left = tonumber(all[i + 1]) - now
  if left > 0 then
    answer[#answer + 1] = all[i]
    answer[#answer + 1] = string.format('%.0f', left)
  else
    redis.call('HDEL', KEYS[1], all[i])
  end
end
redis.call('PEXPIRE', KEYS[1], 3600000)
return answer
