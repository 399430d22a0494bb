local _, pin, v = read()
if not pin then
  return { 0, at }
end
return { 1, at, meet(pin, v) }
