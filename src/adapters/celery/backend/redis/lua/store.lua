-- Stores results and tells those who wait. A success is never replaced.
-- KEYS: results. ARGV for each: for how many ms ('0': for ever), whether only if the task is not known to have begun (1 or 0),
-- value. Our values and Python's begin with the state.
for at, key in ipairs(KEYS) do
  local ttl, if_waiting, value = ARGV[3 * at - 2], ARGV[3 * at - 1], ARGV[3 * at]
  local state = string.match(redis.call('GETRANGE', key, 0, 63), '^{"status"%s*:%s*"([%w_]+)"')
  local is_kept = state == 'SUCCESS'
  if if_waiting == '1' then
    is_kept = redis.call('EXISTS', key) == 1 and state ~= 'RETRY' and state ~= 'PENDING' and state ~= 'RECEIVED'
  end
  if not is_kept then
    if ttl == '0' then redis.call('SET', key, value) else redis.call('SET', key, value, 'PX', ttl) end
    redis.call('PUBLISH', key, value)
  end
end
return 1
