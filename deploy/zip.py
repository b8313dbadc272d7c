"""Packs a function for Lambda: python deploy/zip.py <bootstrap> <bootstrap.zip>

Uses zopfli for the smallest file, and a fixed timestamp, so that the same binary gives the same bytes.
"""

import binascii
import pathlib
import struct
import sys

import zopfli.zlib

data = pathlib.Path(sys.argv[1]).read_bytes()
# Strip the zlib header and checksum: a zip file holds the raw deflate stream.
packed = zopfli.zlib.compress(data, numiterations=5)[2:-4]
name = b"bootstrap"
midnight, first_of_1980, deflated = 0, 33, 8
header = struct.pack(
    "<5H3I2H", 20, 0, deflated, midnight, first_of_1980, binascii.crc32(data), len(packed), len(data), len(name), 0)
local = b"PK\3\4" + header + name + packed
unix, mode = 3 << 8 | 20, 0o100755 << 16
central = b"PK\1\2" + struct.pack("<H", unix) + header + struct.pack("<3H2I", 0, 0, 0, mode, 0) + name
end = b"PK\5\6" + struct.pack("<4H2IH", 0, 0, 1, 1, len(central), len(local), 0)
archive = pathlib.Path(sys.argv[2])
archive.write_bytes(local + central + end)
print(f"{archive}: {len(local + central + end) / 1e6:.2f} MB")
