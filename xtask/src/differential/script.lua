-- SPDX-License-Identifier: MIT OR Apache-2.0
local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end
print(fib(15))
local t = {}
for i = 1, 200 do t[i] = (i * 7919) % 211 end
table.sort(t)
print(table.concat(t, " "))
print(select(2, pcall(function() error({code = 7}) end)).code)
print(select("#", string.find("key = value", "(%w+)%s*=%s*(%w+)")))
print((string.gsub("hello world", "%w+", function(w) return w:upper() end)))
local co = coroutine.wrap(function() for i = 1, 5 do coroutine.yield(i * i) end return "end" end)
for _ = 1, 6 do print(co()) end
local m = setmetatable({}, {__index = function(_, k) return k .. "!" end, __add = function() return 1 end})
print(m.x, m + m, #"text", 7 // 2, 7.5 % 2, 1 << 4, 2 ^ 10)
goto out
print("never")
::out::
print(string.format("%5.2f|%-8s|%x", 3.14159, "left", 255), os.time{year=2020, month=1, day=1, hour=12} > 0)
collectgarbage()
print(load("return 1 +"))
print(tostring(nil), tonumber("0x1p4"), math.type(1), utf8.char(228))
