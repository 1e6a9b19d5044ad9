-- Before the scripts that add messages: adds one to a queue. `command` is XADD, LPUSH or PUBLISH; `most` the entries that a
-- stream keeps ('0': no limit).
local function add(command, queue, most, message)
  if command ~= 'XADD' then return redis.call(command, queue, message) end
  if most == '0' then return redis.call('XADD', queue, '*', 'data', message) end
  return redis.call('XADD', queue, 'MAXLEN', '~', most, '*', 'data', message)
end
