-- SPDX-License-Identifier: MIT OR Apache-2.0
-- What the Lua interpreter works on: tables, strings, closures and numbers, as often as is said.
local sum = 0
for round = 1, tonumber(arg[1]) do
  local words, counts = {}, {}
  for i = 1, 2000 do
    words[i] = "word" .. (i * 7919 % 613)
  end
  for _, word in ipairs(words) do
    counts[word] = (counts[word] or 0) + #word
  end
  table.sort(words)
  local function fib(n)
    if n < 2 then return n end
    return fib(n - 1) + fib(n - 2)
  end
  local text = table.concat(words, " ")
  for word in text:gmatch("%a+(%d+)") do
    sum = (sum + tonumber(word)) % 1000003
  end
  sum = (sum + fib(17) + #text:gsub("word1", "w") + #text:reverse()) % 1000003
end
print(sum)
