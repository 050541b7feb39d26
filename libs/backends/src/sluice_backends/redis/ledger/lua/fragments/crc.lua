-- CRC32C of an object from the CRCs of its pieces, without reading the bytes again.
--
-- A CRC is a polynomial over GF(2); `n` following bytes multiply it by x^(8n). That factor depends
-- on the size only, so the caller passes it with the chunk (`shift`), and one multiplication
-- remains.

local crc = {}

local POLYNOMIAL = 0x82F63B78 -- Castagnoli, reflected: the highest bit is x^0

local function product(a, b)
  local band, bxor, rshift = bit.band, bit.bxor, bit.rshift
  local sum = 0
  a = bit.tobit(a)
  b = bit.tobit(b)
  while a ~= 0 do
    if a < 0 then -- the highest bit: the sign, for the library's signed 32 bits
      sum = bxor(sum, b)
    end
    a = bit.lshift(a, 1)
    if band(b, 1) == 1 then
      b = bxor(rshift(b, 1), POLYNOMIAL)
    else
      b = rshift(b, 1)
    end
  end
  return sum
end

-- CRC of the bytes of `before` followed by a piece.
function crc.combined(before, piece, shift)
  if before == 0 then
    return piece
  end
  return bit.bxor(product(before, shift), bit.tobit(piece)) % 4294967296
end
